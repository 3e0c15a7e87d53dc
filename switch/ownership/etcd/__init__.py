"""Ownership in a cluster, by etcd: who is there, and who owns which shard.

    errors.py       what etcd says no to, and what nobody knows the outcome of
    store.py        what is asked of etcd: a port, and the values that go through it
    client.py       its adapter: gRPC, several endpoints, TLS, users
    memory.py       its fake: leases on a scripted clock, and faults on cue
    session.py      a lease, kept alive, and how long it surely lives
    mirror.py       the keys below a prefix, as they are, whatever happens to a watch
    locks.py        named locks
    membership.py   `ClusterOwnership`, made of these
    protocol/       etcd's own messages, and what protoc made of them

Of the clients that there are for asyncio, one does not run on any Python that this
project does, one knows a single host and loses its watches with it, and one repeats
transactions of which nobody knows whether they happened, which a lock must not. And
what is needed of etcd is small. So it is ours.
"""

import os

# To be set before it is imported first: what it writes about connections, past our log,
# is told in errors; and children of ours run another program, so that it need not
# get ready for a fork.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
