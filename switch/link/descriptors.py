"""How many files and sockets the process may have open.

A connection that takes one of the last is closed again: what is left is for the
journal, its readers and the operators, and accepting never fails for want of one.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterable
from typing import Final

from switch.link.settings import LinkSettings
from switch.observe.log import event

# What the process has open beside connections: journal, log, pipes, listening sockets,
# operators. Counted: some forty.
OTHERS: Final = 128
# The last ones, which no connection gets.
KEPT: Final = 16

_log = logging.getLogger("switch.link")


def raise_limit(links: Iterable[LinkSettings]) -> None:
    """So that every connection that the links allow may be there at once; says so if
    the system does not let us."""
    needed = OTHERS + sum(
        link.connections_max if link.role == "listen" else link.connections
        for link in links
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        event(
            _log,
            logging.WARNING,
            "fewer descriptors than connections are allowed",
            has=soft,
            needed=needed,
        )


def is_scarce(descriptor: int) -> bool:
    """Whether this one, the lowest that was free, is among the last."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= soft - KEPT
