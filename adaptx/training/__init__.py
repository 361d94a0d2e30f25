"""Training without a neural-network library: a loss function of parameters, an optimizer, a jitted step."""
