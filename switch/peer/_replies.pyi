from collections.abc import Callable
from typing import Final

from switch.flow._dispatch import Dispatcher
from switch.shard._group import ReplyBuffer

HEADER_SIZE: Final[int]
ANSWER_KIND: Final[int]

class PeerReplies(ReplyBuffer):
    def __init__(
        self, send: Callable[[bytes], object], dispatchers: list[Dispatcher | None]
    ) -> None: ...
    @property
    def outstanding(self) -> int: ...
    def ask(
        self,
        body: bytes,
        *,
        link: int,
        shard: int,
        number: int,
        read_ms: int,
        left_ms: int,
        now: int,
        is_void: bool,
    ) -> int: ...
