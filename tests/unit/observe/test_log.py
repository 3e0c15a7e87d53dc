from __future__ import annotations

import io
import itertools
import json
import logging
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.observe.log import (
    LINES_PER_SECOND_MAX,
    Sampler,
    event,
    in_background,
    mask_digits,
    set_up,
)

CARD = "4000001234567899"
assert CARD[-4:] == "7899"


@pytest.fixture
def logged(monkeypatch):
    monkeypatch.setattr("switch.observe.log._sampler", None)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()

    def start(log_format, level="info"):
        set_up(level, log_format, stream)
        return logging.getLogger("switch.link"), stream

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


def with_check_digit(digits):
    for last in "0123456789":
        if mask_digits(digits + last) != digits + last:
            return digits + last
    raise AssertionError("one of ten must fit")


def test_plain_lines_carry_fields(logged):
    log, stream = logged("plain")
    event(log, logging.INFO, "connection opened", peer="127.0.0.1:5", reason="a b")
    line = stream.getvalue()
    assert 'info    link: connection opened peer=127.0.0.1:5 reason="a b"\n' in line


def test_json_lines_carry_fields(logged):
    log, stream = logged("json")
    event(log, logging.WARNING, "closed", peer="127.0.0.1:5", frames=3, level="x")
    content = json.loads(stream.getvalue())
    assert content.pop("at").endswith("Z")
    assert content == {
        "level": "warning",
        "logger": "switch.link",
        "event": "closed",
        "peer": "127.0.0.1:5",
        "frames": 3,
    }


def test_a_stream_that_is_no_terminal_gets_json(logged):
    log, stream = logged("auto")
    event(log, logging.INFO, "x")
    assert json.loads(stream.getvalue())["event"] == "x"


def test_set_up_twice_writes_once_and_levels_hold(logged):
    logged("plain")
    log, stream = logged("plain", "warning")
    event(log, logging.INFO, "hidden")
    event(log, logging.WARNING, "shown")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_a_card_number_is_masked_wherever_it_comes_from(logged, log_format):
    card = with_check_digit("400000123456789")
    log, stream = logged(log_format)
    try:
        raise ValueError(f"bad {card}=2512 in {card.encode().hex()}")
    except ValueError:
        log.exception("text %s", card)
    event(log, logging.INFO, f"text {card}", field=card, spaced=" ".join([card] * 2))
    written = stream.getvalue()
    assert card not in written
    assert card.encode().hex() not in written
    assert f"[card ..{card[-4:]}]" in written


@given(st.text("0123456789 -", max_size=60))
def test_no_long_run_of_digits_survives(text):
    masked = mask_digits(text)
    assert not any(
        len(run.replace(" ", "").replace("-", "")) > 19
        for run in masked.replace("[", "x").split("x")
        if "digits" not in run and "card" not in run
    )


def test_grouped_card_numbers_are_masked_and_other_numbers_left():
    card = with_check_digit("400000123456789")
    grouped = " ".join(card[i : i + 4] for i in range(0, 16, 4))
    assert mask_digits(f"a {grouped} b") == f"a [card ..{card[-4:]}] b"
    assert mask_digits("127.0.0.1:8583 123456 2026-11-24") == (
        "127.0.0.1:8583 123456 2026-11-24"
    )
    assert mask_digits("0" * 40) == "[40 digits]"


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_a_peer_cannot_forge_a_line(logged, log_format):
    log, stream = logged(log_format)
    event(log, logging.INFO, "closed", reason="x\n2026 info forged\r\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_a_library_that_says_much_is_cut_whatever_it_says(logged, log_format):
    """Its texts may be made of what a peer sent: none is like another."""
    _, stream = logged(log_format)
    library = logging.getLogger("some.library")
    for number in range(1000):
        library.warning(f"peer {number} did it")
        library.error("peer %d did it", number)
    lines = stream.getvalue().splitlines()
    # Of so many seconds they are; each has a part of two of the sampler's.
    seconds = set(re.findall(r"T\d\d:\d\d:\d\d", stream.getvalue()))
    assert 1 <= len(lines) <= len(seconds) * 2 * LINES_PER_SECOND_MAX


def test_libraries_speak_from_warnings_up(logged):
    _, stream = logged("plain", "debug")
    library = logging.getLogger("some.library")
    library.info("hidden")
    assert stream.getvalue() == ""
    library.warning("shown")
    assert "some.library: shown" in stream.getvalue()


def test_what_a_peer_sent_that_is_no_http_is_not_told(logged):
    _, stream = logged("plain", "debug")
    server = logging.getLogger("aiohttp.server")
    server.error("Error handling request from %s", "GET /4000001234567899")
    server.warning("GET /4000001234567899")
    assert stream.getvalue() == ""
    server.critical("it is the end")
    assert "it is the end" in stream.getvalue()


def test_a_flood_of_one_event_is_cut_and_counted(logged, monkeypatch):
    log, stream = logged("json")
    now = [0.0]
    monkeypatch.setattr("switch.observe.log._sampler", Sampler(clock=lambda: now[0]))

    def said():
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    for _ in range(1000):
        event(log, logging.INFO, "refused", a=1)
    assert len(said()) == LINES_PER_SECOND_MAX
    event(log, logging.INFO, "another")
    assert said()[-1]["event"] == "another"
    now[0] = 1.5
    event(log, logging.INFO, "refused", a=1)
    told = said()[-1]
    assert (told["a"], told["left_out"]) == (1, 1000 - LINES_PER_SECOND_MAX)


def test_a_flood_that_goes_on_gets_a_line_now_and_then():
    now = [0.0]
    sampler = Sampler(clock=lambda: now[0])
    for _ in range(100):
        sampler.admit("switch.link", "refused")
    admitted = []
    for step in range(1, 1001):
        now[0] = step / 1000
        if sampler.admit("switch.link", "refused") is not None:
            admitted.append(step)
    assert len(admitted) in range(LINES_PER_SECOND_MAX - 1, LINES_PER_SECOND_MAX + 1)
    gaps = [after - before for before, after in itertools.pairwise(admitted)]
    assert min(gaps) >= 1000 // LINES_PER_SECOND_MAX - 1


def test_what_a_library_says_is_counted_together_and_kept_in_bounded_memory():
    sampler = Sampler(clock=lambda: 0.0)

    def record(name, text):
        return logging.LogRecord(name, logging.ERROR, "", 0, text, None, None)

    texts = [f"bytes {number}" for number in range(1000)]
    assert (
        sum(sampler.filter(record("asyncio", text)) for text in texts)
        == LINES_PER_SECOND_MAX
    )
    assert len(sampler._events) == 1
    # One library does not silence another, nor us.
    assert sampler.filter(record("aiohttp.web", "x"))
    assert sampler.filter(record("switch.link", "x"))
    assert sampler.filter(record("switch.link", "y"))


class Stopped(io.StringIO):
    """A terminal that was stopped, until it goes on."""

    def __init__(self):
        super().__init__()
        self.goes_on = threading.Event()
        self.entered = threading.Event()

    def write(self, text):
        self.entered.set()
        assert self.goes_on.wait(30)
        return super().write(text)


def test_in_background_nobody_waits_for_a_line_and_all_are_written(logged):
    log, _ = logged("plain")
    stream = Stopped()
    set_up("info", "plain", stream)
    with in_background():
        for number in range(3):
            event(log, logging.INFO, "opened", number=number)
        assert stream.getvalue() == ""
        stream.goes_on.set()
    written = stream.getvalue().splitlines()
    assert [line.rpartition(" ")[2] for line in written] == [
        "number=0", "number=1", "number=2",
    ]  # fmt: skip
    event(log, logging.INFO, "afterwards")
    assert "afterwards" in stream.getvalue()


def test_lines_in_the_background_are_masked_and_sampled(logged):
    log, stream = logged("json")
    with in_background():
        for _ in range(2 * LINES_PER_SECOND_MAX):
            event(log, logging.INFO, f"card {CARD}")
    lines = stream.getvalue().splitlines()
    assert LINES_PER_SECOND_MAX <= len(lines) < 2 * LINES_PER_SECOND_MAX
    assert json.loads(lines[0])["event"] == "card [card ..7899]"


def test_lines_that_find_no_room_are_counted(logged, monkeypatch):
    log, _ = logged("plain")
    monkeypatch.setattr("switch.observe.log.WAITING_MAX", 2)
    stream = Stopped()
    set_up("info", "plain", stream)
    with in_background():
        event(log, logging.INFO, "begins")
        assert stream.entered.wait(30)
        for number in range(5):
            event(log, logging.INFO, "opened", number=number)
        stream.goes_on.set()
        while "number=1" not in stream.getvalue():
            time.sleep(0.001)
        event(log, logging.INFO, "goes on")
    words = [line.split(": ")[1] for line in stream.getvalue().splitlines()]
    assert words == [
        "begins", "opened number=0", "opened number=1", "lines were lost lines=3",
        "goes on",
    ]  # fmt: skip
