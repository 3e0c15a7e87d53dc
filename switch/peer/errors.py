"""What goes wrong between nodes.

PeerError
└── PeerProtocolError   the other node breaks the protocol, or is not ours
"""


class PeerError(Exception):
    pass


class PeerProtocolError(PeerError):
    """The connection is closed for it; its requests are tried again elsewhere."""

    def __init__(self, what: str, expected: object, got: object) -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")
