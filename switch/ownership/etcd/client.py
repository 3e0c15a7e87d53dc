"""etcd by gRPC: the adapter of `switch.ownership.etcd.store.Store`.

Rule 1: what only reads, and what may happen twice, is tried at one endpoint after the
        other until its time is over. Anything else is sent once: with no answer to it
        the outcome is not known, and that is what is raised.
Rule 2: only etcd itself says that something did not happen. An error of whatever is
        between, or one that says that time ran out, says nothing.
Rule 3: a member that knows no leader does not answer from memory: it is told to say so.
Rule 4: a watch is heard from within twice WATCH_QUIET_SECONDS, or it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import msgspec

from switch.ownership.etcd.endpoints import Endpoint, Endpoints, Method, Tls
from switch.ownership.etcd.errors import (
    EtcdDenied,
    EtcdError,
    EtcdLeaseGone,
    EtcdNoSpace,
    EtcdRefused,
    EtcdUnavailable,
    EtcdUnknown,
)
from switch.ownership.etcd.messages import (
    changes_of,
    listing_of,
    outcome_of,
    prefix_request,
    transaction_request,
    watch_request,
)
from switch.ownership.etcd.protocol import etcd_pb2 as pb
from switch.ownership.etcd.store import (
    Change,
    IsAt,
    Lease,
    Listing,
    Operation,
    Outcome,
)

# Of one call, with all endpoints that it tries; and of one of these.
CALL_SECONDS: Final = 5.0
ATTEMPT_SECONDS: Final = 1.5
# When none of them is there.
PAUSE_SECONDS: Final = 0.05
WATCH_QUIET_SECONDS: Final = 2.0

RANGE = Method("/etcdserverpb.KV/Range", pb.RangeRequest, pb.RangeResponse)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnRequest, pb.TxnResponse)
WATCH = Method(
    "/etcdserverpb.Watch/Watch", pb.WatchRequest, pb.WatchResponse, is_stream=True
)
GRANT = Method(
    "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest, pb.LeaseGrantResponse
)
KEEP_ALIVE = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive",
    pb.LeaseKeepAliveRequest,
    pb.LeaseKeepAliveResponse,
    is_stream=True,
)
REVOKE = Method(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest, pb.LeaseRevokeResponse
)
STATUS = Method("/etcdserverpb.Maintenance/Status", pb.StatusRequest, pb.StatusResponse)
AUTHENTICATE = Method(
    "/etcdserverpb.Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse
)

# What etcd itself says begins so.
_OF_ETCD: Final = "etcdserver: "
_REFUSALS: Final[dict[str, type[EtcdRefused]]] = {
    "mvcc: database space exceeded": EtcdNoSpace,
    "requested lease not found": EtcdLeaseGone,
    "permission denied": EtcdDenied,
    "authentication failed, invalid user ID or password": EtcdDenied,
}
# Said before anything is done: another token, or another endpoint, may do better.
_TOKEN_TROUBLES: Final = (
    "invalid auth token",
    "user name is empty",
    "revision of auth store is old",
)
_UNSERVED: Final = ("no leader", "too many requests")
_NO_USERS: Final = "authentication is not enabled"
# With these, what etcd says is an answer, and not that it does not know one.
_ANSWERS: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAUTHENTICATED,
)


class Settings(msgspec.Struct, frozen=True):
    """`endpoints` are HOST:PORT, of members of one cluster."""

    endpoints: tuple[str, ...]
    tls: Tls | None = None
    user: str | None = None
    password: str | None = None
    call_seconds: float = CALL_SECONDS
    attempt_seconds: float = ATTEMPT_SECONDS

    def __repr__(self) -> str:
        """Without what is secret."""
        return f"Settings({', '.join(self.endpoints)}, user={self.user!r})"


class MemberStatus(msgspec.Struct, frozen=True):
    """What a member says of itself, or in `trouble` why it does not. `cluster` is
    etcd's own number of the cluster that it is a member of."""

    endpoint: str
    version: str = ""
    cluster: int = 0
    has_leader: bool = False
    is_leader: bool = False
    size: int = 0
    alarms: tuple[str, ...] = ()
    trouble: str | None = None


class EtcdClient:
    """See `switch.ownership.etcd.store.Store`. To be made and closed in the loop that
    it is used in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._endpoints = Endpoints(settings.endpoints, settings.tls)
        self._token: str | None = None
        self._authenticating = asyncio.Lock()

    async def close(self) -> None:
        await self._endpoints.close()

    # -- what is asked

    async def listing(self, prefix: str) -> Listing:
        return listing_of(await self._read(RANGE, prefix_request(prefix)))

    async def transaction(
        self,
        condition: IsAt,
        then: tuple[Operation, ...],
        otherwise: tuple[Operation, ...] = (),
    ) -> Outcome:
        request = transaction_request(condition, then, otherwise)
        return outcome_of(await self._call(TXN, request, self._settings.call_seconds))

    async def grant(self, ttl_s: int) -> Lease:
        answer = await self._read(GRANT, pb.LeaseGrantRequest(TTL=ttl_s))
        if answer.error:
            raise EtcdRefused(f"expected a lease of {ttl_s} s, got {answer.error}")
        return Lease(answer.ID, answer.TTL)

    async def keep_alive(self, lease: int, seconds: float) -> int:
        request = pb.LeaseKeepAliveRequest(ID=lease)
        answer = await self._read(KEEP_ALIVE, request, seconds)
        ttl_s: int = answer.TTL
        if ttl_s <= 0:
            raise EtcdLeaseGone(f"expected lease {lease:x} to be there, got none")
        return ttl_s

    async def revoke(self, lease: int) -> None:
        try:
            await self._read(REVOKE, pb.LeaseRevokeRequest(ID=lease))
        except EtcdLeaseGone:
            return

    async def statuses(self) -> tuple[MemberStatus, ...]:
        """Of all endpoints, by address."""
        endpoints = sorted(self._endpoints.all(), key=lambda each: each.address)
        return tuple(await asyncio.gather(*map(self._status, endpoints)))

    async def _status(self, endpoint: Endpoint) -> MemberStatus:
        try:
            await self._authenticate(None)
            answer = await endpoint.method(STATUS)(
                pb.StatusRequest(),
                timeout=self._settings.attempt_seconds,
                metadata=self._metadata(),
            )
        except (EtcdError, grpc.aio.AioRpcError) as error:
            return MemberStatus(endpoint.address, trouble=_said(error))
        return MemberStatus(
            endpoint=endpoint.address,
            version=answer.version,
            cluster=answer.header.cluster_id,
            has_leader=answer.leader != 0,
            is_leader=answer.leader == answer.header.member_id != 0,
            size=answer.dbSize,
            alarms=tuple(answer.errors),
        )

    # -- how it is asked

    async def _read(
        self, method: Method, request: Any, seconds: float | None = None
    ) -> Any:
        """Or whatever may be done twice."""
        if seconds is None:
            seconds = self._settings.call_seconds
        return await self._call(method, request, seconds, is_repeatable=True)

    async def _call(
        self,
        method: Method,
        request: Any,
        seconds: float,
        *,
        is_repeatable: bool = False,
    ) -> Any:
        now = asyncio.get_running_loop().time
        until = now() + seconds
        while True:
            await self._authenticate(until)
            endpoint = await self._connected(until)
            left = max(until - now(), 0.0)
            attempt_seconds = min(left, self._settings.attempt_seconds)
            token = self._token
            try:
                return await self._ask(endpoint, method, request, attempt_seconds)
            except grpc.aio.AioRpcError as error:
                is_known = self._is_known_unserved(error, token)
                endpoint.trouble = _said(error)
                self._endpoints.put_last(endpoint)
                if not is_known and not is_repeatable:
                    raise EtcdUnknown(
                        f"expected etcd at {endpoint.address} to answer, got "
                        f"{endpoint.trouble}"
                    ) from error
            if now() >= until:
                raise self._unavailable(seconds)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(
        self, endpoint: Endpoint, method: Method, request: Any, seconds: float
    ) -> Any:
        call = endpoint.method(method)
        metadata = self._metadata()
        if not method.is_stream:
            return await call(request, timeout=seconds, metadata=metadata)
        stream = call(timeout=seconds, metadata=metadata)
        try:
            await stream.write(request)
            answer = await stream.read()
            if answer is grpc.aio.EOF:
                raise await _ended(stream)
            return answer
        finally:
            stream.cancel()

    async def _connected(self, until: float) -> Endpoint:
        """One that can be asked. Nothing has been sent when it raises."""
        now = asyncio.get_running_loop().time
        began_at = now()
        while True:
            for _ in range(len(self._endpoints)):
                endpoint = self._endpoints.next
                left = max(until - now(), 0.0)
                seconds = min(left, self._settings.attempt_seconds)
                if await endpoint.is_connected(seconds):
                    return endpoint
                self._endpoints.put_last(endpoint)
            if now() + PAUSE_SECONDS >= until:
                await self._find_out_why()
                raise self._unavailable(now() - began_at)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _find_out_why(self) -> None:
        """A channel does not tell why it has no connection; a call does, at once."""

        async def ask(endpoint: Endpoint) -> None:
            try:
                await endpoint.method(STATUS)(pb.StatusRequest(), timeout=PAUSE_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    endpoint.trouble = _said(error)

        await asyncio.gather(*map(ask, self._endpoints.all()))

    def _unavailable(self, seconds: float) -> EtcdUnavailable:
        return EtcdUnavailable(
            f"expected etcd to be there within {seconds:.3g} s, got "
            f"{self._endpoints.troubles()}"
        )

    def _is_known_unserved(self, error: Any, token: str | None) -> bool:
        """Whether nothing was done and it may be asked for again; or what etcd
        refused, is raised."""
        text = _of_etcd(error.details() or "")
        if text is None:
            return False
        if text in _TOKEN_TROUBLES and self._settings.user is not None:
            if self._token == token:
                self._token = None
            return True
        if text in _UNSERVED:
            return True
        if error.code() in _ANSWERS:
            raise _refusal(text) from error
        return False

    # -- users

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        leader = (("hasleader", "true"),)
        return (*leader, ("token", self._token)) if self._token else leader

    async def _authenticate(self, until: float | None) -> None:
        """One asks for a token, and the others wait for it."""
        settings = self._settings
        if settings.user is None or self._token is not None:
            return
        now = asyncio.get_running_loop().time
        if until is None:
            until = now() + settings.call_seconds
        async with self._authenticating:
            while self._token is None:
                endpoint = await self._connected(until)
                request = pb.AuthenticateRequest(
                    name=settings.user, password=settings.password or ""
                )
                seconds = min(max(until - now(), 0.0), settings.attempt_seconds)
                try:
                    answer = await endpoint.method(AUTHENTICATE)(
                        request, timeout=seconds
                    )
                    self._token = answer.token
                except grpc.aio.AioRpcError as error:
                    text = _of_etcd(error.details() or "")
                    if text == _NO_USERS:
                        self._token = ""
                    elif text is not None and error.code() in _ANSWERS:
                        raise _refusal(text) from error
                    else:
                        endpoint.trouble = _said(error)
                        self._endpoints.put_last(endpoint)
                        if now() >= until:
                            raise self._unavailable(settings.call_seconds) from error

    # -- watching

    @asynccontextmanager
    async def watch(
        self, prefix: str
    ) -> AsyncIterator[AsyncIterator[tuple[Change, ...]]]:
        until = asyncio.get_running_loop().time() + self._settings.call_seconds
        await self._authenticate(until)
        endpoint = await self._connected(until)
        stream = endpoint.method(WATCH)(metadata=self._metadata())
        try:
            answers = self._answers(endpoint, stream, watch_request(prefix))
            while not (await anext(answers)).created:
                pass  # nothing else comes first, or is missed
            yield self._changes(answers)
        finally:
            stream.cancel()

    async def _changes(
        self, answers: AsyncIterator[Any]
    ) -> AsyncIterator[tuple[Change, ...]]:
        async for answer in answers:
            if answer.events:
                yield changes_of(answer)

    async def _answers(
        self, endpoint: Endpoint, stream: Any, request: Any
    ) -> AsyncIterator[Any]:
        token = self._token
        try:
            await stream.write(request)
            while True:
                answer = await self._heard(stream)
                if answer.canceled:
                    self._cancelled(answer, token)
                yield answer
        except grpc.aio.AioRpcError as error:
            endpoint.trouble = _said(error)
        except TimeoutError:
            endpoint.trouble = f"no word in {2 * WATCH_QUIET_SECONDS:g} s"
        self._endpoints.put_last(endpoint)
        raise EtcdUnavailable(
            f"expected a watch at {endpoint.address} to go on, got {endpoint.trouble}"
        )

    async def _heard(self, stream: Any) -> Any:
        """The next answer. Nothing changes for long: so it is asked how far it is."""
        reading = asyncio.ensure_future(stream.read())
        try:
            for _ in range(2):
                done, _waiting = await asyncio.wait(
                    {reading}, timeout=WATCH_QUIET_SECONDS
                )
                if done:
                    answer = reading.result()
                    if answer is grpc.aio.EOF:
                        raise await _ended(stream)
                    return answer
                async with asyncio.timeout(WATCH_QUIET_SECONDS):
                    await stream.write(
                        pb.WatchRequest(progress_request=pb.WatchProgressRequest())
                    )
            raise TimeoutError
        finally:
            reading.cancel()

    def _cancelled(self, answer: Any, token: str | None) -> None:
        """Also what is too slow for etcd to keep everything for it."""
        text = _of_etcd(answer.cancel_reason)
        if text in _TOKEN_TROUBLES and self._token == token:
            self._token = None
        elif text in _REFUSALS:
            raise _refusal(text)
        raise EtcdUnavailable(
            f"expected a watch to go on, got its end: {answer.cancel_reason!r}, "
            f"compacted at {answer.compact_revision}"
        )


async def _ended(stream: Any) -> grpc.aio.AioRpcError:
    """What a stream that has no more messages ended with, even with OK."""
    return grpc.aio.AioRpcError(
        await stream.code(),
        await stream.initial_metadata(),
        await stream.trailing_metadata(),
        details=await stream.details() or "the end of the stream",
    )


def _of_etcd(text: str) -> str | None:
    """What etcd says, without where it was said before."""
    _, found, said = text.partition(_OF_ETCD)
    return said if found else None


def _refusal(text: str) -> EtcdRefused:
    return _REFUSALS.get(text, EtcdRefused)(f"etcd refused it: {text}")


def _said(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        name = error.code().name.lower().replace("_", " ")
        return f"{name} ({error.details()})"
    return str(error)
