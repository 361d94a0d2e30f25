"""The engine: everything around the equation."""
