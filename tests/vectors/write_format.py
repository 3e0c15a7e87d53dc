"""Writes the data directory that every later version must open, in today's format:

    python -m tests.vectors.write_format tests/vectors/format-1

To be run once for a format, before it is released, and never again: what is committed
was written by the program of that day. The directory has entries of every kind, events,
a token and a key (of zeros), and not what can be made again.
"""

import json
import os
import sys
import zlib
from pathlib import Path

from msgspec.structs import asdict

from switch.admin.tokens import TokenFile
from switch.files import write_private
from switch.journal.released import Released
from switch.journal.sqlite import FORMAT_VERSION
from switch.keys.pan import MASTER_KEY_SIZE
from tests.unit.follower.running import publish_all
from tests.unit.small_bank import JOINT, MAIN_PAN, OTHER_PAN, full_journal

EXPECTED_NAME = "expected.json"
# An answer that has to be given again.
STAN, RRN, AMOUNT = "000777", "000000000777", 300


def write(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    master = bytes(MASTER_KEY_SIZE)
    line = f"switch-pan-key-1 {master.hex()} {zlib.crc32(master):08x}\n"
    write_private(directory / "pan.key", line.encode())
    token = TokenFile(directory / "tokens.json").add("maria", "operator")
    bank, journal = full_journal(directory)
    answer = bank.ask(amount=AMOUNT, account=JOINT, pan=OTHER_PAN, stan=STAN, rrn=RRN)
    bank.commit(journal)
    head = journal.head
    journal.close()
    released = Released(directory / "released")
    released.advance(head)
    released.close()
    publish_all(directory)
    for name in ("readmodel.db", "journal.db-wal", "journal.db-shm"):
        (directory / name).unlink(missing_ok=True)
    expected = {
        "format": FORMAT_VERSION,
        "commits": head,
        "entries": len(bank.entries),
        "accounts": [
            asdict(view) for state in bank.states for view in state.accounts()
        ],
        "holds": sum(len(list(state.holds())) for state in bank.states),
        "cards": [MAIN_PAN, OTHER_PAN],
        "token": token,
        "answer": [answer.response_code, answer.approval_code],
    }
    (directory / EXPECTED_NAME).write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    os.umask(0o077)
    write(Path(sys.argv[1]))
