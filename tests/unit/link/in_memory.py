"""A switch in memory: all that lies between a connection's bytes and the journal.

The test says when time passes, when the loop turns and when a commit is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from iso8583 import Codec, Message, load_dialect, load_spec
from switch.flow._dispatch import Dispatcher
from switch.journal.port import ShardRecord
from switch.keys._pan_hash import PanHash
from switch.keys.memory import TestKeys
from switch.ledger import (
    AccountOpened,
    CardIssued,
    Entry,
    Limits,
    State,
    apply,
    decode_entries,
    shard_of_account,
)
from switch.ledger.views import AccountView
from switch.link._connection import Connection
from switch.link._counters import LinkCounters
from switch.link._endpoint import Endpoint
from switch.link._forwarding import Forwarded
from switch.link._framing import FrameReader, Framing
from switch.link.hints import Hints
from switch.link.management import Management, NetworkMessages
from switch.link.settings import LinkSettings
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

NOW = 1_764_000_000_000  # 2025-11-24T16:00:00Z
# A turn is over when a test says so, not when the machine was busy with others.
TURN_NS = 3_600_000_000_000
STERLING, EURO = 826, 978
KEYS = TestKeys()
ACCOUNTS = {
    # currency, balance, credit limit
    "main": (STERLING, 10_000, 0),
    "other": (STERLING, 10_000, 0),
    "euro": (EURO, 10_000, 0),
    "credit": (STERLING, 0, 5_000),
}
# PAN, account, expiry, status (the order of CARD_STATUSES)
CARDS = {
    "active": ("9999990000000001", "main", 3012, 0),
    "restricted": ("9999990000000002", "main", 3012, 1),
    "lost": ("9999990000000003", "main", 3012, 2),
    "stolen": ("9999990000000004", "main", 3012, 3),
    "closed": ("9999990000000005", "main", 3012, 4),
    "expired": ("9999990000000006", "main", 2510, 0),
    "other": ("9999990000000007", "other", 3012, 0),
    "euro": ("9999990000000008", "euro", 3012, 0),
    "credit": ("999999000000000009", "credit", 3012, 0),
}
PANS = {name: card[0] for name, card in CARDS.items()} | {
    "unknown": "9999999999999999"
}  # fmt: skip
Fields = dict[int | str, Any]

_FIELDS: Fields = {
    3: "000000",
    4: "000000001000",
    7: "1124160000",
    12: "160000",
    13: "1124",
    14: "3012",
    18: "5411",
    26: "12",
    32: "123456",
    37: "RRN000000001",
    41: "TERM0001",
    42: "MERCHANT0000001",
    43: "A SHOP, SOMEWHERE".ljust(40),
    49: "826",
}


def fields(
    mti: str = "0100",
    stan: int = 1,
    *,
    card: str = "active",
    amount: int = 1_000,
    changes: Mapping[int, str | None] | None = None,
) -> Fields:
    """What a scheme sends; `changes` sets fields, None takes one away."""
    values: Fields = {"mti": mti, 2: PANS[card], **_FIELDS, 11: f"{stan:06d}"}
    values[4] = f"{amount:012d}"
    if mti[1] == "8":
        values = {"mti": mti, 7: "1124160000", 11: f"{stan:06d}", 70: "301"}
    for field, value in (changes or {}).items():
        if value is None:
            values.pop(field, None)
        else:
            values[field] = value
    return values


def original(mti: str, stan: int, acquirer: str = "123456") -> str:
    """Field 90: the transaction that a reversal or a posting is about."""
    return f"{mti}{stan:06d}1124160000{int(acquirer):011d}{0:011d}"


def opening(
    shard_count: int,
    accounts: Mapping[str, tuple[int, int, int]] = ACCOUNTS,
    cards: Iterable[tuple[str, str, int, int]] = tuple(CARDS.values()),
    at: int = NOW,
) -> list[tuple[int, Entry]]:
    """The entries that make these accounts and cards, by shard."""
    entries: list[tuple[int, Entry]] = []
    sequences = dict.fromkeys(range(shard_count), 0)
    indices: dict[str, int] = {}
    for name, (currency, balance, credit_limit) in accounts.items():
        shard = shard_of_account(name.encode(), shard_count)
        sequences[shard] += 1
        indices[name] = sequences[shard] - 1
        entries.append(
            (shard, AccountOpened(
                name, currency, balance, credit_limit, at=at, sequence=sequences[shard]
            ))
        )  # fmt: skip
    for pan, account, expiry, status in cards:
        shard = shard_of_account(account.encode(), shard_count)
        sequences[shard] += 1
        entries.append(
            (shard, CardIssued(
                KEYS.pan_hash(pan.encode()), KEYS.seal(pan.encode()), account,
                indices[account], expiry, status, pan[-4:],
                at=at, sequence=sequences[shard],
            ))
        )  # fmt: skip
    return entries


def bank(
    shard_count: int,
    limits: Limits,
    entries: Iterable[tuple[int, Entry]] | None = None,
) -> list[State]:
    """The accounts and cards above, or others, each in the shard of its account."""
    states = [State(shard, limits) for shard in range(shard_count)]
    for shard, entry in entries or opening(shard_count):
        apply(states[shard], entry)
    return states


class Timer:
    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """What a connection asks of its event loop: the time, and to be called later."""

    def __init__(self, ready: list[Callable[[], object]]) -> None:
        self.now = 1000.0
        self.ready = ready
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.ready.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            due = [timer for timer in self.timers if timer.at <= end]
            if not due:
                break
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.callback()
        self.now = end


class Transport:
    """A socket's transport: what is written stays here."""

    def __init__(self, ready: list[Callable[[], object]]) -> None:
        self.writes: list[bytes] = []
        self.is_reading = True
        self.is_closed = False
        self.is_aborted = False
        self.write_error: Exception | None = None
        self.connection: Connection | None = None
        self._ready = ready

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 40_000) if name == "peername" else default

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        if self.write_error is not None:
            raise self.write_error
        self.writes.append(data)

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.lose(None)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def lose(self, error: Exception | None) -> None:
        """The connection is told at the next turn of the loop, as by a real one."""
        assert self.connection is not None
        connection = self.connection
        self.is_closed = True
        self._ready.append(lambda: connection.connection_lost(error))


class Line:
    """One connection and its peer's side of it."""

    def __init__(self, switch: Switch, endpoint: Endpoint) -> None:
        self.switch = switch
        self.transport = Transport(switch.ready)
        self.connection = Connection(endpoint)
        self.transport.connection = self.connection
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def send(self, *messages: Fields) -> None:
        """All of them in one read event."""
        self.receive(b"".join(map(self.switch.frame, messages)))

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)

    def read(self, data: bytes) -> None:
        """One read event the way a buffered protocol gets it."""
        view = self.connection.get_buffer(-1)
        assert len(view) >= len(data)
        view[: len(data)] = data
        self.connection.buffer_updated(len(data))

    @property
    def replies(self) -> list[Message]:
        """All that was written so far."""
        settings = self.switch.settings
        framing = Framing(settings.framing, settings.inclusive)
        frames = FrameReader(framing).feed(b"".join(self.transport.writes))
        return [self.switch.codec.decode(frame) for frame in frames]

    @property
    def codes(self) -> list[str]:
        return [reply[39] for reply in self.replies]

    @property
    def stans(self) -> list[str]:
        return [reply[11] for reply in self.replies]


class Switch:
    """`settings` are those of the link, or of its session."""

    def __init__(
        self,
        spec: str = "iso87-ascii",
        *,
        shard_count: int = 4,
        limits: Limits | None = None,
        pending_max: int = 65_536,
        hash_pan: PanHash = KEYS.pan_hash,
        entries: Iterable[tuple[int, Entry]] | None = None,
        states: list[State] | None = None,
        head: int = 0,
        now: int = NOW,
        session: Mapping[str, Any] | None = None,
        turn_ns: int = TURN_NS,
        forward: Callable[[Forwarded], bool] | None = None,
        confirms: bool = False,
        **settings: Any,
    ) -> None:
        self._now = now
        self.ready: list[Callable[[], object]] = []
        self.loop = Loop(self.ready)
        self._turn_ns = turn_ns
        self._forward = forward
        self.clock_fault: Exception | None = None
        self.states = states or bank(shard_count, limits or Limits(), entries)
        self.in_flight: list[ShardRecord] | None = None
        self.on_submit: Callable[[], object] = lambda: None
        self.committed: list[list[ShardRecord]] = []
        self.released: list[int] = []
        self.closed: list[Connection] = []
        self.accepts = True
        self.group = CommitGroup(
            self.states,
            submit=self._submit,
            schedule=self.ready.append,
            released=self._released,
            clock=lambda: self.now,
            monotonic=lambda: self.loop.now,
            head=head,
            pending_max=pending_max,
            confirms=confirms,
        )
        self.codec = Codec(load_spec(spec))
        self._dialect = load_dialect(spec, self.codec.spec)
        self.directory = CardDirectory(self.states)
        self._hash_pan = hash_pan
        self.dispatcher = self._dispatcher(0)
        self.settings = LinkSettings(
            spec=spec,
            session=self._session(session or {}),
            **settings,
        )
        self.group.deadline_ms = self.settings.answer_deadline_ms
        self.framing = Framing(
            self.settings.framing, self.settings.inclusive, self.settings.frame_size_max
        )
        self.counters = LinkCounters()
        self._messages = NetworkMessages(self.codec, lambda: self.now, self._dialect)
        self.endpoint = self._endpoint(self.settings, self.dispatcher)

    def _dispatcher(self, scheme: int) -> Dispatcher:
        return Dispatcher(
            self.codec,
            self.directory,
            self.group,
            self._hash_pan,
            scheme=scheme,
            dialect=self._dialect,
        )

    def _endpoint(self, settings: LinkSettings, dispatcher: Dispatcher) -> Endpoint:
        return Endpoint(
            "main",
            self.framing,
            dispatcher,
            self.counters,
            settings=settings,
            loop=self.loop,  # type: ignore[arg-type]
            clock=self._clock,
            open_management=self._open_management,
            opened=lambda connection: self.accepts,
            closed=self.closed.append,
            look=Hints(self.codec, self.framing, tpdu=settings.tpdu),
            turn_ns=self._turn_ns,
            forward=self._forward,
        )

    def _clock(self) -> int:
        if self.clock_fault is not None:
            raise self.clock_fault
        return self.now

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, value: int) -> None:
        """Time passes: on the wall, and on the loop's clock, which never goes back."""
        self.loop.now += max(value - self._now, 0) / 1000
        self._now = value

    def set_clock(self, value: int) -> None:
        """Somebody sets the wall clock; no time passes by it."""
        self._now = value

    @staticmethod
    def _session(values: Mapping[str, Any]) -> Any:
        return type(LinkSettings().session)(**values)

    def _submit(self, at: int, records: list[ShardRecord]) -> None:
        assert self.in_flight is None, "two commits in flight"
        assert records or self.group.confirms
        self.in_flight = records
        self.on_submit()

    def _released(self, number: int) -> None:
        self.released.append(number)

    def _open_management(self, connection: Connection) -> Management:
        return Management(
            connection,
            self._messages,
            self.settings.session,
            self.loop.time,
            self.counters,
        )

    def connect(self) -> Line:
        return Line(self, self.endpoint)

    def connect_by_another_link(self, answer_deadline_ms: int, scheme: int = 0) -> Line:
        """With another deadline, and of another scheme or the same."""
        other = replace(self.settings, answer_deadline_ms=answer_deadline_ms)
        self.group.deadline_ms = min(self.group.deadline_ms, answer_deadline_ms)
        return Line(self, self._endpoint(other, self._dispatcher(scheme)))

    def frame(self, message: Fields) -> bytes:
        return self.framing.encode(self.codec.encode(message))

    def turn(self) -> None:
        """The loop runs what it was given, and what that gives it."""
        while self.ready:
            self.ready.pop(0)()

    def make_durable(self) -> None:
        """The commit in flight is on the disk, and the loop hears of it."""
        assert self.in_flight is not None, "no commit in flight"
        if self.in_flight:
            self.committed.append(self.in_flight)
        self.in_flight = None
        self.group.committed(len(self.committed))

    def settle(self) -> None:
        """Until nothing is left to do but what the peers may ask next."""
        self.turn()
        while self.in_flight is not None:
            self.make_durable()
            self.turn()

    def ask(self, line: Line, *messages: Fields) -> list[Message]:
        """The replies to these, committed."""
        before = len(line.replies)
        line.send(*messages)
        self.settle()
        return line.replies[before:]

    def account(self, name: str = "main") -> AccountView:
        shard = shard_of_account(name.encode(), len(self.states))
        view = self.states[shard].account(name)
        assert view is not None
        return view

    def entries(self) -> list[tuple[int, Entry]]:
        """What is durable: (shard, entry), in the order of the commits."""
        return [
            (record.shard, entry)
            for records in self.committed
            for record in records
            for entry in decode_entries(record.payload, record.first_sequence)
        ]
