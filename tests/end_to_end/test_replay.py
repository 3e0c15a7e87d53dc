"""What a daemon was asked, and what it answered, replays into another one."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from switch.link._framing import Framing
from switch.replay.captures import Capture
from tests.end_to_end.harness import (
    ROOT,
    SWITCH,
    Client,
    Daemon,
    environment,
    import_accounts,
    import_cards,
    make_bank,
    original_of,
    pan_of,
    request,
    run_switch,
    wait_until,
)
from tests.unit.replay.packets import Conversation, pcapng

BALANCE = 10_000
FRAMING = Framing("binary2")
# What docs/replay.md says; `-Z`: this file is in a directory of ours alone.
CAPTURERS = {
    "tshark": ("tshark", "-q", "-i", "lo", "-f", "tcp port {port}", "-w", "{path}"),
    "tcpdump": (
        *("tcpdump", "-Z", "root", "-U", "-i", "lo", "-w", "{path}"),
        "tcp port {port}",
    ),
}
# To capture takes the program, and the right to; without them the packets are made of
# what came and went.
CAPTURES = [
    "built",
    *(name for name in CAPTURERS if shutil.which(name) and not os.getuid()),
]


@pytest.fixture
def start(tmp_path):
    """Daemons with the same cards and accounts, each on a directory of its own."""
    daemons: list[Daemon] = []

    def start(*cards: str) -> Daemon:
        folder = tmp_path / f"daemon-{len(daemons)}"
        folder.mkdir()
        daemon = Daemon(folder)
        daemons.append(daemon)
        if cards:
            import_accounts(
                daemon.data, ((f"A{i}", "EUR", BALANCE, 0) for i in range(len(cards)))
            )
            import_cards(
                daemon.data,
                ((pan, f"A{i}", "4912", "active") for i, pan in enumerate(cards)),
            )
        else:
            make_bank(daemon.data, 2, BALANCE)
        daemon.start()
        return daemon

    yield start
    for daemon in daemons:
        daemon.close()


def purchases() -> list[dict[int | str, str]]:
    """An approval, its repeat, a decline, a reversal, and one of an unknown card."""
    first = request("0100", 1, pan_of(0), 4_000)
    return [
        first,
        first | {"mti": "0101"},
        request("0200", 2, pan_of(1), 20_000),
        request("0400", 3, pan_of(0), 4_000, f90=original_of("0100", 1)),
        request("0100", 4, pan_of(9), 1),
        request("0200", 5, pan_of(0), 9_000),
    ]


def talk(daemon: Daemon, messages: list[dict[int | str, str]]) -> Conversation:
    conversation = Conversation().open()
    with Client(daemon.port) as client:
        for message in messages:
            asked = client.codec.encode(message)
            client.send_body(asked)
            answered = client.receive_body()
            assert answered is not None
            conversation.to_switch(FRAMING.encode(asked))
            conversation.from_switch(FRAMING.encode(answered))
    return conversation.close()


def capture_with(name: str, daemon: Daemon, path: Path, act: Callable[[], int]) -> None:
    """`act` does what is to be captured, and says how many messages that were."""
    words = [word.format(port=daemon.port, path=path) for word in CAPTURERS[name]]
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        wait_until(lambda: path.exists() and path.stat().st_size, "a capture begun")
        count = act()

        def captured() -> bool:
            with Capture.open(path) as capture:
                return len(list(capture.frames(FRAMING))) == count

        wait_until(captured, f"{count} messages captured: {log.read_text()}")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=CAPTURES)
def captured(request, start, tmp_path) -> tuple[Path, list[tuple[int, int, int]]]:
    """A capture, and the figures of the accounts after what is in it."""
    daemon = start()
    path = tmp_path / "port.pcapng"
    messages = purchases()
    if request.param == "built":
        path.write_bytes(pcapng(talk(daemon, messages).packets))
    else:

        def act() -> int:
            talk(daemon, messages)
            return 2 * len(messages)

        capture_with(request.param, daemon, path, act)
    return path, [daemon.figures(f"A{i}") for i in (0, 1)]


def replay(daemon: Daemon, path: Path, *words: str | Path):
    target = "replay", path, "--to", f"127.0.0.1:{daemon.port}"
    done = run_switch(*target, *words, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_capture_of_a_daemon_replays_into_a_fresh_one_and_compares_equal(
    captured, start
):
    path, figures = captured
    daemon = start()
    exit_code, report = replay(daemon, path, "--ignore", "38")
    assert (exit_code, report["sent"], report["matched"]) == (0, 6, 6), report
    assert report["response_codes"] == {"00": 4, "14": 1, "51": 1}
    assert [daemon.figures(f"A{i}") for i in (0, 1)] == figures
    # And again: they are the same requests, and get the answers that they got.
    exit_code, again = replay(daemon, path, "--ignore", "38")
    assert (exit_code, again["matched"]) == (0, 6)
    assert [daemon.figures(f"A{i}") for i in (0, 1)] == figures


def test_another_state_of_the_accounts_is_seen(start, tmp_path):
    path = tmp_path / "port.pcapng"
    path.write_bytes(pcapng(talk(start(), purchases()).packets))
    daemon = start()
    with Client(daemon.port) as client:
        assert client.ask(request("0200", 77, pan_of(0), BALANCE))[39] == "00"
    page = tmp_path / "report.html"
    exit_code, report = replay(daemon, path, "--ignore", "38", "--html", page)
    assert exit_code == 1
    assert (report["matched"], report["different"]) == (3, 3)
    assert report["different_fields"] == {"39": 3}
    text = page.read_text()
    assert "field 39: captured 00, got 51" in text
    assert pan_of(0) not in text + json.dumps(report)


def test_with_fresh_numbers_and_other_cards_reversals_still_find_their_originals(
    start, tmp_path
):
    path = tmp_path / "port.pcapng"
    path.write_bytes(pcapng(talk(start(), purchases()).packets))
    cards = tmp_path / "map.csv"
    pairs = [(pan_of(i), pan_of(i + 50)) for i in (0, 1, 9)]
    cards.write_text("from,to\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    # It knows none of the captured cards.
    daemon = start(pan_of(50), pan_of(51))
    exit_code, report = replay(
        daemon, path, "--ignore", "38", "--fresh", "--cards", cards
    )
    assert (exit_code, report["matched"]) == (0, 6), report
    assert daemon.figures("A0") == (BALANCE - 9_000, 0, BALANCE - 9_000)
    # Once more they are other requests: held, given back, and then not enough.
    exit_code, report = replay(
        daemon, path, "--ignore", "38", "--fresh", "--cards", cards, "--speed", "100x"
    )
    assert exit_code == 1
    assert daemon.figures("A0") == (BALANCE - 9_000, 0, BALANCE - 9_000)
    log = daemon.log_text()
    for pan in (pan_of(0), pan_of(50)):
        assert pan not in log + json.dumps(report)


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_an_interrupted_replay_tells_what_came_of_it_until_then(
    start, tmp_path, number, exit_code
):
    daemon = start()
    path = tmp_path / "port.pcapng"
    path.write_bytes(pcapng(talk(daemon, purchases()[:1]).packets))
    words = [*SWITCH, "replay", str(path), "--to", f"127.0.0.1:{daemon.port}"]
    process = subprocess.Popen(
        [*words, "--json", "--ignore", "38", "--rate", "5", "--loop", "1000000"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        name = 'switch_duplicates_total{link="main"}'
        wait_until(lambda: daemon.metrics()[name] >= 2, "two repeats answered")
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (exit_code, "")
    report = json.loads(output)
    assert report["matched"] >= 2
    assert report["sent"] - report["matched"] <= 1
