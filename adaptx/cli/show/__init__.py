"""`adaptx show`: the card of an optimizer, a controller, a schedule or a wrapper, or a list of them all."""
