from typing import Final, final

from iso8583 import Codec, Dialect
from switch.keys._pan_hash import PanHash
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

WITHDRAWN_CODE: Final = "91"

@final
class Dispatcher:
    def __init__(
        self,
        codec: Codec,
        directory: CardDirectory,
        group: CommitGroup,
        hash_pan: PanHash,
        *,
        scheme: int = 0,
        dialect: Dialect = ...,
    ) -> None: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def dialect(self) -> Dialect: ...
    @property
    def directory(self) -> CardDirectory: ...
    @property
    def group(self) -> CommitGroup: ...
    @property
    def scheme(self) -> int: ...
    @property
    def repeated(self) -> int: ...
    def counts(self) -> dict[tuple[str, str], int]: ...
