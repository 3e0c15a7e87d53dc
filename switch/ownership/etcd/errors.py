"""What can go wrong with etcd, by what the caller knows afterwards.

    EtcdError
    ├── EtcdUnavailable     nothing has happened: no endpoint was there to be asked
    ├── EtcdUnknown         it has happened, will happen, or never will
    └── EtcdRefused         nothing has happened: etcd said no
        ├── EtcdDenied      to this user, or to nobody
        ├── EtcdLeaseGone   the lease has run out, or was revoked
        └── EtcdNoSpace     an alarm: only reading, deleting and keeping alive

EtcdUnknown is for what changes something, and never for what only reads. It is not
raised for what was not sent yet, and nothing that raised it is tried again here.
"""

# ruff: noqa: N818
from __future__ import annotations


class EtcdError(Exception):
    pass


class EtcdUnavailable(EtcdError):
    pass


class EtcdUnknown(EtcdError):
    pass


class EtcdRefused(EtcdError):
    pass


class EtcdDenied(EtcdRefused):
    pass


class EtcdLeaseGone(EtcdRefused):
    pass


class EtcdNoSpace(EtcdRefused):
    pass
