import sys

from switch.follower.process import main

if __name__ == "__main__":
    sys.exit(main())
