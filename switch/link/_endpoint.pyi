"""What all connections of one link share: settings, a buffer, and their turns."""

import asyncio
from collections.abc import Callable
from typing import Final

from iso8583 import Codec
from switch.flow._dispatch import Dispatcher
from switch.link._connection import Connection
from switch.link._counters import LinkCounters
from switch.link._forwarding import Forwarded
from switch.link._framing import Framing
from switch.link.management import Management
from switch.link.settings import LinkSettings
from switch.shard._group import CommitGroup, ReplyBuffer

NOISE_PAUSE_S: Final = 0.001

class Waiter(ReplyBuffer): ...

class Endpoint:
    def __init__(
        self,
        name: str,
        framing: Framing,
        dispatcher: Dispatcher,
        counters: LinkCounters,
        *,
        settings: LinkSettings,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
        open_management: Callable[[Connection], Management],
        opened: Callable[[Connection], bool],
        closed: Callable[[Connection], None],
        look: Callable[[bytes], str],
        turn_ns: int = 250_000,
        forward: Callable[[Forwarded], bool] | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def framing(self) -> Framing: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def dispatcher(self) -> Dispatcher: ...
    @property
    def group(self) -> CommitGroup: ...
    @property
    def counters(self) -> LinkCounters: ...
    @property
    def tpdu_size(self) -> int: ...
    @property
    def deadline_ms(self) -> int: ...
    @property
    def outstanding_max(self) -> int: ...
    @property
    def undecodable_max(self) -> int: ...
    @property
    def sign_on_required(self) -> bool: ...
    @property
    def drain_timeout_s(self) -> float: ...
