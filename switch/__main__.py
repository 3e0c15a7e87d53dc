"""`python -m switch`, and the `switch` command (`switch.__main__:main`)."""

import sys

from switch.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
