"""`python -m iso8583`."""

import sys

from iso8583.shell import main

if __name__ == "__main__":
    sys.exit(main())
