"""The side that decides: requests of other nodes, in shards that are here.

Rule 1: an answer leaves when what it tells is durable, as on a link.
Rule 2: what cannot be decided here is said at once: NOT_MINE, or REFUSED and why.
        Whoever asked knows then that nothing has happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from iso8583 import DecodeError
from switch.flow._dispatch import Dispatcher
from switch.flow.outcome import Outcome
from switch.observe.log import event
from switch.peer._replies import PeerReplies
from switch.peer.calls import AnswerHere
from switch.peer.connection import PeerConnection
from switch.peer.errors import PeerProtocolError
from switch.peer.framing import Frame, Kind, pack
from switch.peer.hello import Hello, Identity, fingerprint, hello
from switch.peer.port import Owners
from switch.shard.errors import Elsewhere

# Requests of one node that wait for their commit; above it the node is not read until
# half of them are answered. `asking.IN_FLIGHT_MAX` of the other side comes first.
OUTSTANDING_MAX = 32_768
# Calls of all nodes that are being answered; above it they are refused.
CALLS_MAX = 1024

MS_PER_S = 1000

# With these there is a reply, held for its commit.
REPLIED = frozenset(
    {Outcome.ANSWERED, Outcome.NOT_SERVED, Outcome.MALFORMED, Outcome.UNDECIDED}
)

_log = logging.getLogger("switch.peer")


class Answering:
    """All nodes that have connected to this one. Makes the protocol objects of their
    connections: `accept()`."""

    def __init__(
        self,
        identity: Identity,
        dispatchers: Mapping[str, Dispatcher],
        owners: Owners,
        *,
        clock: Callable[[], int],
        answer_call: AnswerHere | None = None,
    ) -> None:
        """`dispatchers`: by the link's name; what they count is counted where a request
        came from too. `clock`: milliseconds since 1970. `answer_call`: see
        `switch.peer.calls`."""
        self.sessions: dict[PeerConnection, _Session] = {}
        self.asked = 0
        self.not_mine = 0
        self.refused = 0
        self._identity = identity
        self._dispatchers = dict(dispatchers)
        self._prints = {
            name: fingerprint(each.codec, each.dialect, each.scheme)
            for name, each in dispatchers.items()
        }
        self._owners = owners
        self._clock = clock
        self._answer_call = answer_call
        self._calls: set[asyncio.Task[None]] = set()

    def accept(self) -> PeerConnection:
        return PeerConnection(self, self._identity, self._greeting)

    def close(self, reason: str) -> None:
        for connection in tuple(self.sessions):
            connection.close(reason)

    def _greeting(self) -> bytes:
        # Who only answers names no link.
        return hello(self._identity, {}, self._clock())

    # -- what connections tell

    def peer_up(self, connection: PeerConnection, said: Hello) -> None:
        dispatchers: list[Dispatcher | None] = []
        for link in said.links:
            ours = self._prints.get(link.name)
            if ours != link.fingerprint:
                event(
                    _log,
                    logging.ERROR,
                    "a link is not the same on another node: its requests are refused",
                    node=said.identity.node,
                    link=link.name,
                    do="give the link the same spec, dialect and scheme on all nodes",
                )
            is_same = ours == link.fingerprint
            dispatchers.append(self._dispatchers[link.name] if is_same else None)
        self.sessions[connection] = _Session(self, connection, dispatchers)

    def peer_said(self, connection: PeerConnection, frame: Frame) -> None:
        self.sessions[connection].take(frame)

    def peer_lost(self, connection: PeerConnection, reason: str) -> None:
        self.sessions.pop(connection, None)

    # -- for a session

    def owner_of(self, shard: int) -> str:
        owner = self._owners.owner_of(shard)
        return "" if owner is None or owner == self._identity.node else owner

    def now(self) -> int:
        return self._clock()

    def take_call(self, connection: PeerConnection, frame: Frame) -> None:
        if self._answer_call is None or len(self._calls) >= CALLS_MAX:
            self.refused += 1
            why = b"91no room for it now"
            connection.send(pack(Kind.REFUSED, why, number=frame.number))
            return
        task = asyncio.create_task(self._call(connection, frame))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, connection: PeerConnection, frame: Frame) -> None:
        assert self._answer_call is not None
        try:
            body = await self._answer_call(frame.shard, frame.body)
            kind = Kind.RESULT
        except Elsewhere:
            kind, body = Kind.NOT_MINE, self.owner_of(frame.shard).encode()
            self.not_mine += 1
        except Exception as error:  # noqa: BLE001 -- ends with its call
            # Whether it was done is not known: no answer says so.
            event(
                _log, logging.ERROR, "call of a node failed",
                error=error, node=connection.node,
            )  # fmt: skip
            connection.close("a call failed")
            return
        connection.send(pack(kind, body, number=frame.number))


class _Session:
    def __init__(
        self,
        answering: Answering,
        connection: PeerConnection,
        dispatchers: list[Dispatcher | None],
    ) -> None:
        self._answering = answering
        self._connection = connection
        self._dispatchers = dispatchers
        self._replies = PeerReplies(self._deliver, dispatchers)
        self._loop = asyncio.get_running_loop()
        self._is_paused = False

    def take(self, frame: Frame) -> None:
        if frame.kind == Kind.CALL:
            self._answering.asked += 1
            self._answering.take_call(self._connection, frame)
            return
        if frame.kind not in (Kind.REQUEST, Kind.VOID):
            raise PeerProtocolError(
                "frame of a node that asks", "REQUEST, VOID or CALL", frame.kind.name
            )
        if frame.link >= len(self._dispatchers):
            raise PeerProtocolError(
                "link of a node", f"below {len(self._dispatchers)}", frame.link
            )
        self._answering.asked += 1
        if self._dispatchers[frame.link] is None:
            self._refuse(frame, "96", "the link is not the same here")
            return
        try:
            outcome = self._replies.ask(
                frame.body,
                link=frame.link,
                shard=frame.shard,
                number=frame.number,
                read_ms=round(self._loop.time() * MS_PER_S),
                left_ms=frame.left_ms,
                now=self._answering.now(),
                is_void=frame.kind == Kind.VOID,
            )
        except DecodeError:
            self._refuse(frame, "96", "no message of the link's spec")
            return
        except Exception as error:  # noqa: BLE001 -- ends with its request
            node = self._connection.node
            event(
                _log, logging.ERROR, "request of a node failed", error=error, node=node
            )
            self._refuse(frame, "96", "an unexpected error; the log has it")
            return
        self._tell(frame, Outcome(outcome))
        if self._replies.outstanding >= OUTSTANDING_MAX and not self._is_paused:
            self._is_paused = True
            self._connection.pause()

    def _tell(self, frame: Frame, outcome: Outcome) -> None:
        if outcome == Outcome.ELSEWHERE:
            self._answering.not_mine += 1
            owner = self._answering.owner_of(frame.shard).encode()
            self._connection.send(pack(Kind.NOT_MINE, owner, number=frame.number))
        elif outcome == Outcome.UNDECIDED and frame.kind == Kind.VOID:
            self._refuse(frame, "91", "no room for it now")
        elif outcome not in REPLIED:
            self._refuse(frame, "96", f"not a request: {outcome.name.lower()}")

    def _refuse(self, frame: Frame, code: str, why: str) -> None:
        self._answering.refused += 1
        body = f"{code}{why}".encode()
        self._connection.send(pack(Kind.REFUSED, body, number=frame.number))

    def _deliver(self, frames: bytes) -> None:
        self._connection.send(frames)
        if self._is_paused and self._replies.outstanding <= OUTSTANDING_MAX // 2:
            self._is_paused = False
            self._connection.resume()
