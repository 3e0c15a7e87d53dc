from typing_extensions import Buffer

from switch.ledger._entry import Entry
from switch.ledger._state import State

def apply(state: State, entry: Entry) -> int: ...
def apply_payload(state: State, payload: Buffer, first_sequence: int) -> int: ...
