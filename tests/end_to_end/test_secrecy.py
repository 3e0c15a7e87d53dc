"""Card data is nowhere in clear: not in logs, metrics, events, nor any file."""

import signal
from collections.abc import Iterator

import pytest

from tests.end_to_end.harness import (
    Client,
    Daemon,
    make_bank,
    network,
    original_of,
    request,
    run_switch,
    verify,
    wait_until,
)

BALANCE = 100_000
TRACK_2_REST = "D49122011234567890123"
PIN_BLOCK = "0F1E2D3C4B5A6978"
CHIP_DATA = "9F26089CBA0123456789AB"
UNKNOWN_PAN = "4000001234567899"
SPECS = ["iso87-ascii", "iso87-mixed", "iso87-binary", "mastercard-cis"]


def forms_of(digits: str) -> Iterator[bytes]:
    """The digits as text, in both encodings, and packed, from either nibble on."""
    yield digits.encode("ascii")
    yield digits.encode("cp500")
    for start in (0, 1):
        packed = digits[start:]
        yield bytes.fromhex(packed[: len(packed) // 2 * 2])


def talk(client: Client, pan: str) -> None:
    """Every flow, with everything in it that must not be kept."""
    secrets = {"f35": pan + TRACK_2_REST, "f52": PIN_BLOCK, "f55": CHIP_DATA}
    client.ask(network(1, "001"))
    messages = [
        request("0100", 1, pan, 100, **secrets),
        request("0100", 1, pan, 100, **secrets),
        request("0200", 2, pan, 100, **secrets),
        request("0120", 3, pan, 100, f39="00", **secrets),
        request("0220", 4, pan, 100, f39="00", f90=original_of("0120", 3)),
        request("0400", 5, pan, 100, f90=original_of("0100", 1), **secrets),
        request("0100", 6, UNKNOWN_PAN, 100, **secrets),
        request("0100", 7, pan, 10**9, **secrets),
        request("0300", 8, pan, 100, **secrets),
        request("0110", 9, pan, 100, **secrets),
    ]
    for message in messages:
        client.send(message)
    only_track = request("0100", 10, pan, 100, **secrets)
    del only_track[2]
    client.send(only_track)
    # All but the response (9) are answered, and 1 is twice.
    answers = sorted(int(client.receive()[11]) for _ in messages)
    assert answers == [1, *range(1, 9), 10]


def misbehave(client: Client, pan: str) -> None:
    """Malformed in all sorts of ways, a card number always in it."""
    whole = client.codec.encode(
        request("0100", 11, pan, 100, f35=pan + TRACK_2_REST, f52=PIN_BLOCK)
    )
    for size in range(len(whole)):
        client.send_body(whole[:size])
        if size % 10 == 0:  # so that it isn't taken for a stranger
            client.send(network(12, "301"))
    client.send_body(pan.encode() * 3)
    client.send(request("0100", 13, pan[:-1] + "A", 100))
    client.send(network(14, "301"))
    # An answer to what broke off before its field 11 has none.
    while client.receive().get(11) != "000014":
        pass


@pytest.mark.parametrize("spec", SPECS)
def test_no_card_data_is_anywhere(tmp_path, spec):
    options = ("--spec", spec, "--set", "log.level=debug")
    with Daemon(tmp_path, *options) as daemon:
        pan, other = make_bank(daemon.data, 2, BALANCE)
        daemon.start()
        with Client(daemon.port, spec) as client:
            talk(client, pan)
            misbehave(client, pan)
        said = [daemon.get("/metrics")[1], daemon.get(f"/api/accounts/{pan}")[1]]
        daemon.kill()
        daemon.start()
        assert daemon.figures("A0")[0] < BALANCE
        with Client(daemon.port, spec) as client:
            talk(client, other)
        head = daemon.metrics()["switch_journal_head"]
        wait_until(
            lambda: daemon.metrics()["switch_published_head"] >= head, "publishing"
        )
        # What is in the files while it runs, and what a clean end leaves.
        daemon.send_signal(signal.SIGSTOP)
        check_nothing_found(daemon, said, pan, other)
        daemon.send_signal(signal.SIGCONT)
        assert daemon.stop() == 0
        said += [str(verify(daemon.data))]
        said += [run_switch("journal", "dump", daemon.data, "--json").stdout]
        assert "A0" in said[-1]
        check_nothing_found(daemon, said, pan, other)


def check_nothing_found(daemon: Daemon, said: list[str], *pans: str) -> None:
    files = [path for path in daemon.folder.rglob("*") if path.is_file()]
    assert {"journal.db", "readmodel.db", "snapshots.db"} <= {f.name for f in files}
    texts = {path.name: path.read_bytes() for path in files}
    texts |= {f"said {n}": text.encode() for n, text in enumerate(said)}
    assert b"held" in b"".join(texts.values()), "events were not looked at"
    digits = [*pans, UNKNOWN_PAN, TRACK_2_REST[1:]]
    wanted = [form for each in digits for form in forms_of(each)]
    for secret in (PIN_BLOCK, CHIP_DATA):
        wanted += [bytes.fromhex(secret), secret.encode(), secret.lower().encode()]
    for name, content in texts.items():
        for form in wanted:
            assert form not in content, f"{name} has {form!r}"
