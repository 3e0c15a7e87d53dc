"""TCP streams put together again from captured segments: segments in, chunks out.

Rule 1: a byte is given out once and in its place, whatever was sent again, came in
        another order, or overlaps -- RFC 9293 3.4, 3.10.7.4.
Rule 2: nothing waits without bound. Behind a hole, segments are held until the hole is
        filled; when too many are held, or for too long, its bytes are missing from the
        capture, and the next chunk says so.
Rule 3: which side is the switch is decided with the first segment of a connection and
        then stays.

The libraries that there are either keep whole connections in memory until they end, or
lose a stream at the first retransmission.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from switch.replay.captures.chunks import Chunk, ReadOptions

COUNT: Final = 1 << 32  # sequence numbers
# what lies further ahead is behind, seen from the other side
HALF: Final = COUNT // 2
# A hole that a retransmission does not fill in this time it never fills: senders try
# again within a second or two at first (RFC 6298 2).
HOLD_SECONDS_MAX: Final = 5.0
HELD_SIZE_MAX: Final = 1 << 20
HELD_COUNT_MAX: Final = 4096
# so far behind its SYN may data come first, in a capture that is out of order
SYN_LATE_SIZE_MAX: Final = 1 << 16
# connections remembered, ended ones too: what is sent again must still be known
CONNECTIONS_MAX: Final = 16_384

Endpoint = tuple[bytes, int]  # address, port


class Segment(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    place: str
    time_s: float
    source: Endpoint
    target: Endpoint
    sequence: int
    data: bytes
    syn: bool = False
    ack: bool = False

    def __repr__(self) -> str:
        return f"Segment({self.place}, {len(self.data)} bytes)"


class _Held(msgspec.Struct, frozen=True, gc=False):
    place: str
    time_s: float
    data: bytes


class _Direction:
    """What one side of a connection sends."""

    def __init__(self, connection: int, to_switch: bool) -> None:
        self.connection = connection
        self.to_switch = to_switch
        #: the sequence number of its SYN, if that was seen
        self.initial: int | None = None
        #: the sequence number of its first byte that was seen
        self.first: int | None = None
        self.next: int | None = None
        self._held: dict[int, _Held] = {}
        self._held_size = 0
        self._is_after_gap = False

    def begins_again(self, sequence: int) -> bool:
        """Whether a SYN with this number is another connection's."""
        if self.initial is not None:
            return sequence != self.initial
        if self.first is None:
            return False
        behind = (self.first - sequence - 1) % COUNT
        return behind > SYN_LATE_SIZE_MAX

    def open(self, sequence: int) -> None:
        self.initial = sequence
        if self.next is None:
            self.next = self.first = (sequence + 1) % COUNT

    def add(self, sequence: int, segment: Segment) -> Iterator[Chunk]:
        if self.next is None:
            # The capture began in the middle of the connection.
            self.next = self.first = sequence
        ahead = (sequence - self.next) % COUNT
        if 0 < ahead < HALF:
            self._hold(sequence, segment)
            yield from self._give_up_holes(segment.time_s)
            return
        yield from self._give(ahead, segment.place, segment.time_s, segment.data)
        yield from self._give_held()
        yield from self._give_up_holes(segment.time_s)

    def end(self) -> Iterator[Chunk]:
        while self._held:
            yield from self._skip_hole()

    def _hold(self, sequence: int, segment: Segment) -> None:
        before = self._held.get(sequence)
        # the longer one of two that begin alike has all bytes of both
        if before is None or len(before.data) < len(segment.data):
            self._held_size += len(segment.data) - (len(before.data) if before else 0)
            # in the order in which they came: the first is the oldest
            time_s = before.time_s if before else segment.time_s
            self._held[sequence] = _Held(segment.place, time_s, segment.data)

    def _give(
        self, ahead: int, place: str, time_s: float, data: bytes
    ) -> Iterator[Chunk]:
        """What of these bytes was not given out yet; `ahead` 0, or HALF and more."""
        assert self.next is not None
        known_size = (COUNT - ahead) % COUNT
        fresh = data[known_size:]
        if not fresh:
            return
        self.next = (self.next + len(fresh)) % COUNT
        is_after_gap, self._is_after_gap = self._is_after_gap, False
        yield Chunk(place, fresh, time_s, self.to_switch, self.connection, is_after_gap)

    def _give_held(self) -> Iterator[Chunk]:
        """All that no hole is before."""
        assert self.next is not None
        base = self.next
        for sequence in sorted(self._held, key=lambda at: (at - base + HALF) % COUNT):
            ahead = (sequence - self.next) % COUNT
            if 0 < ahead < HALF:
                return
            held = self._take(sequence)
            yield from self._give(ahead, held.place, held.time_s, held.data)

    def _give_up_holes(self, now_s: float) -> Iterator[Chunk]:
        while self._held:
            oldest = next(iter(self._held.values()))
            is_late = now_s - oldest.time_s > HOLD_SECONDS_MAX
            is_much = (
                len(self._held) > HELD_COUNT_MAX or self._held_size > HELD_SIZE_MAX
            )
            if not is_late and not is_much:
                return
            yield from self._skip_hole()

    def _skip_hole(self) -> Iterator[Chunk]:
        assert self.next is not None
        base = self.next
        self.next = min(self._held, key=lambda at: (at - base) % COUNT)
        self._is_after_gap = True
        yield from self._give_held()

    def _take(self, sequence: int) -> _Held:
        held = self._held.pop(sequence)
        self._held_size -= len(held.data)
        return held


class Streams:
    """All connections of a capture."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        # by source and target; the one that was quiet longest comes first
        self._directions: OrderedDict[tuple[Endpoint, Endpoint], _Direction] = (
            OrderedDict()
        )
        self._listening: set[Endpoint] = set()
        self._count = 0

    def add(self, segment: Segment) -> Iterator[Chunk]:
        port = self._options.port
        if port is not None and port not in (segment.source[1], segment.target[1]):
            return
        key = segment.source, segment.target
        direction = self._directions.get(key)
        if direction and segment.syn and direction.begins_again(segment.sequence):
            yield from self._forget(key)
            direction = None
        if direction is None:
            if not segment.syn and not segment.data:
                return
            while len(self._directions) >= 2 * CONNECTIONS_MAX:
                yield from self._forget(next(iter(self._directions)))
            direction = self._begin(segment)
        self._directions.move_to_end(key)
        sequence = segment.sequence
        if segment.syn:
            direction.open(sequence)
            sequence = (sequence + 1) % COUNT
        if segment.data:
            yield from direction.add(sequence, segment)

    def end(self) -> Iterator[Chunk]:
        while self._directions:
            yield from self._forget(next(iter(self._directions)))

    def _forget(self, key: tuple[Endpoint, Endpoint]) -> Iterator[Chunk]:
        """Both directions of a connection."""
        for one in (key, key[::-1]):
            if direction := self._directions.pop(one, None):
                yield from direction.end()

    def _begin(self, segment: Segment) -> _Direction:
        to_switch = self._goes_to_switch(segment)
        for key, is_to_switch in (
            ((segment.source, segment.target), to_switch),
            ((segment.target, segment.source), not to_switch),
        ):
            self._directions[key] = _Direction(self._count, is_to_switch)
        self._count += 1
        return self._directions[segment.source, segment.target]

    def _goes_to_switch(self, segment: Segment) -> bool:
        """The switch is the side that listens, unless it is said to dial."""
        return self._goes_to_listener(segment) != self._options.switch_dials

    def _goes_to_listener(self, segment: Segment) -> bool:
        source, target = segment.source, segment.target
        port = self._options.port
        if port is not None and source[1] != target[1]:
            return target[1] == port
        if segment.syn:
            listener = source if segment.ack else target
            if len(self._listening) < CONNECTIONS_MAX:
                self._listening.add(listener)
            return target == listener
        if (source in self._listening) != (target in self._listening):
            return target in self._listening
        # Systems give the higher ports to whoever dials.
        return target[1] < source[1]
