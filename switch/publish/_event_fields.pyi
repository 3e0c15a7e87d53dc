from typing import Any

from switch.ledger._entry import Transaction

APPROVED: dict[str, bool]

def time_text(at_ms: int) -> str: ...
def event_fields(entry: Transaction, shard: int, commit: int) -> tuple[Any, ...]: ...
