"""The command line: everything that prints, reads a user's files or draws. Needs the `race` extra."""
