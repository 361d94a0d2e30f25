"""`python -m adaptx`, and the console script `adaptx`."""

import sys
from importlib.util import find_spec

# module: the package that brings it, all of the extra `race`
NEEDED = {"typer": "typer", "rich": "rich", "sklearn": "scikit-learn", "matplotlib": "matplotlib", "jinja2": "jinja2"}


def main() -> None:
    """Runs the command line and exits with its code: 0, 2 for input that cannot be used, 130 if interrupted."""
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        names = ", ".join(missing)
        print(f"adaptx: the command line needs {names}; install with: pip install 'adaptx[race]'", file=sys.stderr)
        sys.exit(2)
    from .cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
