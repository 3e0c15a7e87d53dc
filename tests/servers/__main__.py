"""`python -m tests.servers get` fetches and builds every server that is not there."""

import argparse
import sys
import time

from tests.servers import cassandra, etcd, kafka, nsq
from tests.servers.common import ServerError

GETTERS = {
    "cassandra": cassandra.get,
    "etcd": etcd.get,
    "kafka": kafka.get,
    "nsq": nsq.get,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.servers", description=__doc__
    )
    parser.add_argument("action", choices=["get"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GETTERS))
    arguments = parser.parse_args()
    for name in arguments.names or GETTERS:
        if name not in GETTERS:
            parser.error(f"no server {name!r}: expected one of {', '.join(GETTERS)}")
        began_at = time.monotonic()
        try:
            is_new = GETTERS[name]()
        except ServerError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 1
        if is_new:
            print(f"{name}: had in {time.monotonic() - began_at:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
