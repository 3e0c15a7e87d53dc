"""The process beside a node of a cluster that publishes what its shards have released.

Rule 1: it reads the journal in Cassandra, in the shards that the node says it has, and
        of the node's own session never past what the node says is released.
Rule 2: an engine that is down, or slow, holds up neither the node nor another engine.
Rule 3: how far each engine is with each shard is in Cassandra, where the next owner of
        the shard finds it. What an engine has acknowledged behind that is sent again,
        with the same ids: first occurrences are in order whoever sends them, for each
        goes on without a gap from where somebody was.
"""

import sys

from switch.node_publisher.process import main

if __name__ == "__main__":
    sys.exit(main())
