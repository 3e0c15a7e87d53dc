"""The process beside a node of a cluster that keeps a read model of all its shards.

Rule 1: it reads the journal in Cassandra, and never past what counts for sure. It asks
        the node nothing, and the node waits for it in nothing.
Rule 2: no log is kept for it. Where one was dropped before it was read, it goes on from
        the shards' checkpoints.
Rule 3: it may be killed at any time; it goes on where its rows say they are.
"""
