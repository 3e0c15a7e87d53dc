import sys

from switch.publisher.process import main

if __name__ == "__main__":
    sys.exit(main())
