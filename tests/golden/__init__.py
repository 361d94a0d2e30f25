"""Trajectories of torch.optim and optax that the library is compared with, and the scripts that made them."""
