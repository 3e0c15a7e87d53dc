"""What ends a session of a node."""


class SessionLost(Exception):  # noqa: N818 -- what happened, not what is wrong
    """Its lease ran out, or somebody else took over: it answers nothing any more."""
