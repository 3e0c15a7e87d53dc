"""`python -m switch`, and the `switch` command (`switch.__main__:main`)."""

import sys

from switch.cli.main import main as run_command
from switch.cli.output import standard_output


def main() -> int:
    with standard_output():
        return run_command()


if __name__ == "__main__":
    sys.exit(main())
