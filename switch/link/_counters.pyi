class LinkCounters:
    opened: int
    dials_failed: int
    refused: int
    frames_received: int
    forwarded: int
    heartbeats_received: int
    bytes_received: int
    bytes_sent: int
    malformed_answered: int
    malformed_dropped: int
    malformed_framing: int
    faults: int
    network_unanswered: int
    responses_unexpected: int
    replies_sent: int
    replies_dropped: int
    replies_late: int
    outstanding: int
    paused_by_peer: int
    paused_by_outstanding: int
    paused_by_turn: int
    paused_by_pieces: int
    def __init__(self) -> None: ...
    def count_closed(self, kind: str) -> None: ...
    def count_network(self, response_code: str) -> None: ...
    @property
    def closed(self) -> dict[str, int]: ...
    @property
    def network_answers(self) -> dict[str, int]: ...
    @property
    def reply_seconds_counts(self) -> tuple[int, ...]: ...
    @property
    def reply_seconds_sum(self) -> float: ...

class WaitingMarks: ...
