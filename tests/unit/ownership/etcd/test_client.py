"""Against a real etcd of one member, and things that are none."""

import asyncio
import contextlib

import pytest

from switch.ownership.etcd import client as client_module
from switch.ownership.etcd.client import EtcdClient, Settings
from switch.ownership.etcd.endpoints import Tls
from switch.ownership.etcd.errors import (
    EtcdDenied,
    EtcdLeaseGone,
    EtcdNoSpace,
    EtcdRefused,
    EtcdUnavailable,
    EtcdUnknown,
)
from switch.ownership.etcd.messages import range_end
from switch.ownership.etcd.store import Change, Delete, Get, IsAt, Oldest, Put
from tests.servers.certificates import Authority
from tests.servers.common import free_ports
from tests.servers.etcd import VERSION, Etcd
from tests.unit.ownership.etcd.real import connected, run, started, unique, until_done


def test_what_it_asks_is_answered(etcd):
    async def test():
        base = unique("asked")
        keys = [f"{base}/{name}" for name in ("b", "a", "ä")]
        async with connected(etcd.endpoints) as client:
            empty = await client.listing(f"{base}/")
            assert empty.items == ()
            lease = await client.grant(60)
            assert lease.ttl_s == 60
            made = []
            for key in keys:
                put = Put(key, key.encode(), lease.id)
                outcome = await client.transaction(IsAt(key, 0), (put, Get(key)))
                assert outcome.is_met
                (item,) = outcome.found
                assert item is not None
                assert (item.key, item.value, item.lease) == (
                    *(key, key.encode(), lease.id),
                )
                assert item.create_revision == item.mod_revision == outcome.revision
                made.append(item)
            assert made[0].create_revision > empty.revision
            listing = await client.listing(f"{base}/")
            assert listing.items == (made[1], made[0], made[2])
            assert listing.revision == made[2].mod_revision

            again = Put(keys[0], b"other")
            reads = (Get(keys[0]), Get(f"{base}/none"), Oldest(f"{base}/"))
            outcome = await client.transaction(IsAt(keys[0], 0), (again,), reads)
            assert (outcome.is_met, outcome.found) == (False, (made[0], None, made[0]))
            assert (await client.keep_alive(lease.id, 5.0)) == 60
            here = IsAt(keys[0], made[0].create_revision)
            outcome = await client.transaction(here, (Delete(keys[0]), *reads))
            assert (outcome.is_met, outcome.found) == (True, (None, None, made[1]))
            await client.revoke(lease.id)
            await client.revoke(lease.id)
            assert (await client.listing(f"{base}/")).items == ()
            with pytest.raises(EtcdLeaseGone):
                await client.keep_alive(lease.id, 5.0)
            put = Put(keys[0], b"", lease.id)
            with pytest.raises(EtcdLeaseGone):
                await client.transaction(IsAt(keys[0], 0), (put,))

    run(test())


def test_a_watch_tells_everything_from_then_on(etcd):
    async def test():
        base = unique("watched")
        async with connected(etcd.endpoints) as client:
            lease = await client.grant(60)
            async with client.watch(f"{base}/") as batches:
                for name in ("a", "b"):
                    key = f"{base}/{name}"
                    await client.transaction(IsAt(key, 0), (Put(key, b"", lease.id),))
                other = f"{base}x"
                await client.transaction(IsAt(other, 0), (Put(other, b""),))
                changes: list[Change] = []
                while len(changes) < 2:
                    changes += await anext(batches)
                assert [change.key for change in changes] == [f"{base}/a", f"{base}/b"]
                await client.revoke(lease.id)
                both = await anext(batches)
            assert {change.key for change in both} == {f"{base}/a", f"{base}/b"}
            assert {change.after for change in both} == {None}
            (revision,) = {change.revision for change in both}
            assert revision > changes[1].revision > changes[0].revision

    run(test())


def test_a_quiet_watch_goes_on(etcd, monkeypatch):
    monkeypatch.setattr(client_module, "WATCH_QUIET_SECONDS", 0.1)

    async def test():
        key = unique("quiet")
        async with connected(etcd.endpoints) as client:
            async with client.watch(key) as batches:
                news = asyncio.ensure_future(anext(batches))
                await asyncio.sleep(0.7)
                await client.transaction(IsAt(key, 0), (Put(key, b"late"),))
                (change,) = await news
            assert change.after is not None
            assert change.after.value == b"late"

    run(test())


def test_many_at_once(etcd):
    async def test():
        base = unique("many")
        async with connected(etcd.endpoints) as client:

            async def take(number: int) -> int:
                key = f"{base}/{number}"
                outcome = await client.transaction(IsAt(key, 0), (Put(key, b""),))
                return outcome.revision

            revisions = await asyncio.gather(*map(take, range(300)))
            assert len(set(revisions)) == 300
            assert len((await client.listing(f"{base}/")).items) == 300

    run(test())


def test_members_tell_how_they_are(etcd):
    async def test():
        (port,) = free_ports(1)
        endpoints = sorted([*etcd.endpoints, f"127.0.0.1:{port}"])
        async with connected(endpoints) as client:
            statuses = await client.statuses()
        assert [status.endpoint for status in statuses] == endpoints
        here = statuses[endpoints.index(etcd.endpoints[0])]
        assert (here.version, here.is_leader, here.trouble) == (VERSION, True, None)
        assert here.size > 0
        (gone,) = {*statuses} - {here}
        assert "unavailable" in str(gone.trouble)

    run(test())


@pytest.mark.parametrize("prefix", ["a", "a/", "ä", "\U0010ffff"])
def test_a_range_ends_behind_all_that_begin_so(prefix):
    end = range_end(prefix)
    assert prefix.encode() < end
    assert (prefix + "\U0010ffff" * 3).encode() < end
    assert len(end) == len(prefix.encode())


# -- where no etcd is


@contextlib.asynccontextmanager
async def something_else(answer):
    """It answers so, whatever it is asked; with None, it says nothing for ever."""

    serving: list[asyncio.Task[object]] = []

    async def serve(reader, writer):
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        try:
            await reader.read(1 << 16)
            if answer is None:
                await reader.read(-1)
            writer.write(answer or b"")
        except (OSError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def test_where_nobody_listens_nothing_was_sent():
    async def test():
        (port,) = free_ports(1)
        async with connected([f"127.0.0.1:{port}"], call_seconds=0.3) as client:
            with pytest.raises(EtcdUnavailable, match=f"127.0.0.1:{port}.*refused"):
                await client.listing("any")
            with pytest.raises(EtcdUnavailable, match="refused"):
                await client.transaction(IsAt("any", 0), (Put("any", b""),))
            with pytest.raises(EtcdUnavailable, match="refused"):
                async with client.watch("any"):
                    pass

    run(test())


@pytest.mark.parametrize("count", [0, 17])
def test_none_and_too_many_endpoints_are_refused(count):
    async def test():
        with pytest.raises(ValueError, match=f"1 to 16 endpoints of etcd, got {count}"):
            EtcdClient(Settings(("127.0.0.1:1",) * count))

    run(test())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_where_something_else_is_it_is_said_within_the_time(answer):
    async def test():
        async with (
            something_else(answer) as endpoint,
            connected([endpoint], call_seconds=0.5, attempt_seconds=0.2) as client,
        ):
            with pytest.raises(EtcdUnavailable, match="expected etcd to be there"):
                await client.listing("any")
            with pytest.raises((EtcdUnavailable, EtcdUnknown)):
                await client.transaction(IsAt("any", 0), (Put("any", b""),))

    run(test())


def test_a_good_endpoint_among_bad_ones_is_found(etcd):
    async def test():
        (port,) = free_ports(1)
        key = unique("found")
        async with (
            something_else(None) as silent,
            connected(
                [f"127.0.0.1:{port}", silent, *etcd.endpoints], attempt_seconds=0.3
            ) as client,
        ):
            outcome = await client.transaction(IsAt(key, 0), (Put(key, b""),))
            assert outcome.is_met

    run(test())


# -- a server of the test's own


def test_without_an_answer_it_is_not_known_and_not_tried_again(tmp_path):
    async def test():
        with Etcd(tmp_path) as etcd:
            (member,) = etcd.members
            async with connected(
                etcd.endpoints, attempt_seconds=0.3, call_seconds=1.0
            ) as client:
                await client.listing("any")
                member.pause()
                with pytest.raises(EtcdUnknown, match="deadline exceeded"):
                    await client.transaction(IsAt("one", 0), (Put("one", b""),))
                with pytest.raises(EtcdUnavailable, match="deadline exceeded"):
                    await client.listing("one")
                member.resume()
                await client.listing("one")

                member.kill()
                with pytest.raises((EtcdUnavailable, EtcdUnknown)):
                    await client.transaction(IsAt("two", 0), (Put("two", b""),))
                await started(member)
                await until_done(
                    lambda: client.transaction(IsAt("two", 0), (), (Get("two"),)),
                    *(EtcdUnavailable, EtcdUnknown),
                )
                # It was in the member's socket when it was given up. It may have
                # happened even after somebody looked whether it had; but not twice.
                listing = await client.listing("one")
                assert {item.mod_revision for item in listing.items} <= {2}

    run(test())


def test_without_space_only_reading_deleting_and_keeping_alive(tmp_path):
    quota = 1 << 20

    async def test():
        options = ("--quota-backend-bytes", str(quota))
        with Etcd(tmp_path, options=options) as etcd:
            async with connected(etcd.endpoints) as client:
                lease = await client.grant(60)
                key, big = "kept", b"x" * (quota // 8)
                kept = await client.transaction(IsAt(key, 0), (Put(key, b""),))

                async def fill() -> None:
                    for number in range(32):
                        name = f"big/{number}"
                        await client.transaction(IsAt(name, 0), (Put(name, big),))

                with pytest.raises(EtcdNoSpace):
                    await fill()
                with pytest.raises(EtcdNoSpace):
                    await client.transaction(IsAt("new", 0), (Put("new", b""),))
                with pytest.raises(EtcdNoSpace):
                    await client.grant(60)
                assert await client.keep_alive(lease.id, 5.0) == 60
                here = IsAt(key, kept.revision)
                assert (await client.transaction(here, (Delete(key),))).is_met
                (status,) = await client.statuses()
                assert "NOSPACE" in "".join(status.alarms)

    run(test())


# -- users


def admin(member, *steps):
    for path, content in steps:
        member.ask(path, content)


def test_users_and_their_tokens(tmp_path):
    """Tokens do not outlive the process that gave them."""
    user = {"user": "switch", "password": "s3cret"}

    async def test():
        with Etcd(tmp_path) as etcd:
            (member,) = etcd.members
            async with connected(etcd.endpoints, **user) as client:
                await client.listing("early")  # nobody is asked who he is
                permission = {"permType": 2, "key": "b3du", "range_end": "b3dv"}
                await asyncio.to_thread(
                    admin,
                    member,
                    ("auth/user/add", {"name": "root", "password": "root"}),
                    ("auth/role/add", {"name": "root"}),
                    ("auth/user/grant", {"user": "root", "role": "root"}),
                    ("auth/user/add", {"name": "switch", "password": "s3cret"}),
                    ("auth/role/add", {"name": "own"}),
                    ("auth/role/grant", {"name": "own", "perm": permission}),
                    ("auth/user/grant", {"user": "switch", "role": "own"}),
                    ("auth/enable", {}),
                )
                outcome = await client.transaction(
                    IsAt("own/1", 0), (Put("own/1", b""),)
                )
                assert outcome.is_met
                with pytest.raises(EtcdDenied, match="permission denied"):
                    await client.listing("other")
                with pytest.raises(EtcdDenied, match="permission denied"):
                    async with client.watch("other"):
                        pass
                async with client.watch("own") as batches:
                    await client.transaction(IsAt("own/2", 0), (Put("own/2", b""),))
                    assert (await anext(batches))[0].key == "own/2"
                lease = await client.grant(60)
                assert await client.keep_alive(lease.id, 5.0) == 60

                member.kill()
                await started(member)
                here = IsAt("own/1", outcome.revision)
                await until_done(
                    lambda: client.transaction(here, (Delete("own/1"),)),
                    *(EtcdUnavailable, EtcdUnknown),
                )
                assert (await client.statuses())[0].version == VERSION
            async with connected(etcd.endpoints) as nobody:
                with pytest.raises(EtcdRefused, match="user name is empty"):
                    await nobody.listing("own")
            wrong = {"user": "switch", "password": "wrong"}
            async with connected(etcd.endpoints, **wrong) as other:
                with pytest.raises(EtcdDenied, match="authentication failed"):
                    await other.listing("own")
                with pytest.raises(EtcdDenied, match="authentication failed"):
                    await other.transaction(IsAt("own/1", 0), (Put("own/1", b""),))

    run(test())


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, authority):
    """It wants to know who its clients are."""
    pem = str(authority.issue("server"))
    options = [
        *("--cert-file", pem, "--key-file", pem, "--client-cert-auth"),
        *("--trusted-ca-file", str(authority.ca)),
    ]
    directory = tmp_path_factory.mktemp("guarded")
    with Etcd(directory, scheme="https", options=options) as etcd:
        yield etcd


def tls_of(authority, ca=None):
    pem = authority.issue("client").read_bytes()
    ca = (authority if ca is None else ca).ca.read_bytes()
    return Tls(ca, pem, pem)


def test_tls_both_ways(guarded, authority):
    async def test():
        async with connected(guarded.endpoints, tls=tls_of(authority)) as client:
            key = unique("tls")
            assert (await client.transaction(IsAt(key, 0), (Put(key, b""),))).is_met

    run(test())


def test_tls_that_does_not_fit_is_said(guarded, authority, tmp_path):
    other = Authority(tmp_path, "other")
    ca = authority.ca.read_bytes()
    bad = {
        "CERTIFICATE_VERIFY_FAILED": tls_of(authority, other),
        "does etcd take this client's certificate": tls_of(other, authority),
        "does etcd take this client's": Tls(ca),
        "unavailable": None,
    }

    async def test():
        for text, tls in bad.items():
            async with connected(
                guarded.endpoints, tls=tls, call_seconds=0.5
            ) as client:
                with pytest.raises(EtcdUnavailable, match=text):
                    await client.listing("any")

    run(test())
