"""The one exception that a user of the command line is meant to see."""


class InputError(Exception):
    """Input that cannot be used; its message is one sentence that names the place, what is wrong and the remedy."""
