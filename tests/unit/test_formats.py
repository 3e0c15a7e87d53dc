"""A directory of `tests/vectors/format-N` was written by format N and must open for
ever: by this program, and by every later one."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from switch import __version__, audit
from switch.admin.tokens import TokenFile
from switch.config import Config
from switch.embedded import Store, open_store
from switch.journal.errors import JournalVersion
from switch.journal.sqlite import FORMAT_VERSION
from switch.ledger import KIND_NAMES, Request, decide
from tests.unit.follower.running import publish_all
from tests.unit.small_bank import AUTHORISATION, NOW, STERLING
from tests.vectors.write_format import AMOUNT, EXPECTED_NAME, RRN, STAN

VECTORS = Path(__file__).parents[1] / "vectors"
FORMATS = sorted(VECTORS.glob("format-*"))
SECOND = 1_000


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def directory(request, tmp_path):
    """A copy with the modes that a checkout does not keep."""
    copy = tmp_path / "bank"
    shutil.copytree(request.param, copy)
    for path in (copy, copy / "events"):
        path.chmod(0o700)
    for path in copy.iterdir():
        if path.is_file():
            path.chmod(0o600)
    return copy


def expected_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / EXPECTED_NAME).read_text())
    return found


def opened(directory: Path):
    return open_store(Config(data_directory=str(directory)))


def cards(store: Store, pans: list[str]) -> set[str]:
    """Those of `pans` that are found and unseal."""
    found = set()
    for pan in pans:
        pan_hash = store.keys.pan_hash(pan.encode())
        for state in store.recovered.states:
            card = state.card(pan_hash)
            if card is not None:
                found.add(store.keys.unseal(card.sealed_pan, pan_hash).decode())
    return found


def test_there_is_one_of_this_programs_format():
    numbers = [json.loads((d / EXPECTED_NAME).read_text())["format"] for d in FORMATS]
    assert numbers == list(range(1, FORMAT_VERSION + 1))


def test_it_opens_and_every_figure_is_the_same(directory):
    expected = expected_of(directory)
    with opened(directory) as store:
        states = store.recovered.states
        assert store.journal.head == expected["commits"]
        views = [asdict(view) for state in states for view in state.accounts()]
        for now, then in zip(views, expected["accounts"], strict=True):
            assert then.items() <= now.items()
        assert sum(len(list(state.holds())) for state in states) == expected["holds"]
        assert cards(store, expected["cards"]) == set(expected["cards"])
    caller = TokenFile(directory / "tokens.json").find(expected["token"])
    assert caller is not None
    assert caller.name == "maria"


def test_it_verifies(directory):
    expected = expected_of(directory)
    verdict = audit.verify(directory)
    assert verdict.problems == ()
    assert verdict.entries == expected["entries"]
    assert verdict.accounts == len(expected["accounts"])


def test_its_events_are_the_same_and_are_gone_on_with(directory):
    (path,) = (directory / "events").iterdir()
    before = path.read_bytes()
    published = [json.loads(line) for line in before.splitlines()]
    dumped = list(audit.dump(directory))
    assert [event["id"] for event in dumped] == [event["id"] for event in published]
    for now, then in zip(dumped, published, strict=True):
        # Fields may have been added since.
        assert then.items() <= now.items()
    assert {event["kind"] for event in published} <= set(KIND_NAMES.values())
    publish_all(directory)
    assert path.read_bytes() == before


def test_a_repeat_gets_the_answer_of_then(directory):
    expected = expected_of(directory)
    pan = expected["cards"][1]
    with opened(directory) as store:
        pan_hash = store.keys.pan_hash(pan.encode())
        (state,) = [s for s in store.recovered.states if s.has_card(pan_hash)]
        request = Request(
            AUTHORISATION, pan_hash=pan_hash, mti="0100", stan=STAN, rrn=RRN,
            amount=AMOUNT, currency=STERLING, last_four=pan[-4:],
        )  # fmt: skip
        decision = decide(state, request, NOW + SECOND)
        assert decision.repeated
        answer = [decision.response_code, decision.approval_code]
        assert answer == expected["answer"]


def test_a_newer_one_is_refused_and_left_as_it_is(directory):
    connection = sqlite3.connect(directory / "journal.db")
    connection.execute(f"UPDATE meta SET format = {FORMAT_VERSION + 1}")
    connection.commit()
    connection.close()
    before = (directory / "journal.db").read_bytes()
    said = (
        f"journal of another format version: expected {FORMAT_VERSION}, as program "
        f"version {__version__}, got {FORMAT_VERSION + 1}"
    )
    with pytest.raises(JournalVersion, match=said):
        opened(directory).__enter__()
    with pytest.raises(JournalVersion, match=said):
        audit.verify(directory)
    assert (directory / "journal.db").read_bytes() == before
