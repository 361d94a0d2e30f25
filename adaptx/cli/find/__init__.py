"""The command `adaptx find-lr`."""
