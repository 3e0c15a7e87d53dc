import sys

from switch.node_follower.process import main

if __name__ == "__main__":
    sys.exit(main())
