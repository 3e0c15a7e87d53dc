"""Any number of seeds: see `tests.simulation.ownership`. And what must be found in a
few of them, when it is broken on purpose."""

import asyncio
from collections.abc import Callable

import pytest

from switch.ownership.etcd.errors import EtcdError
from switch.ownership.etcd.locks import Locks
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.etcd.mirror import Mirror
from switch.ownership.etcd.session import Session
from tests.simulation.ownership import World
from tests.simulation.seeds import seeds

SEEDS_OF_A_BREAK = 40


@pytest.mark.parametrize("seed", seeds(20))
def test_two_never_rely_on_the_same_and_all_is_well_in_the_end(seed):
    world = World(seed)
    world.run()
    assert world.auditor.relied > 500
    assert world.locked > 0


def looks_at_no_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EtcdOwnership, "held", lambda self, shard: self._grants.get(shard))


def lives_again(patch: pytest.MonkeyPatch) -> None:
    """A keep-alive that was answered too late counts."""

    async def keep(self: Session, heard_at: float) -> None:
        while True:
            await asyncio.sleep(self.ttl_s / 3)
            sent_at = self.clock()
            try:
                ttl_s = await self._store.keep_alive(self.lease, self.ttl_s)
            except EtcdError:
                continue
            self.valid_until = sent_at + ttl_s

    patch.setattr(Session, "_keep", keep)
    patch.setattr(Session, "check", lambda self: None)


def looks_for_no_late_place(patch: pytest.MonkeyPatch) -> None:
    give_up = Locks._give_up

    async def other(
        self: Locks, key: str, create_revision: int | None, is_doubtful: bool
    ) -> None:
        await give_up(self, key, create_revision, is_doubtful=False)

    patch.setattr(Locks, "_give_up", other)


def waits_for_nobody(patch: pytest.MonkeyPatch) -> None:
    async def wait(self: Locks, line: str, key: str) -> None:
        return None

    patch.setattr(Locks, "_wait", wait)


def lists_once(patch: pytest.MonkeyPatch) -> None:
    replace = Mirror._replace

    def other(self, listing):
        if self.revision == 0:
            replace(self, listing)

    patch.setattr(Mirror, "_replace", other)


BREAKS: list[Callable[[pytest.MonkeyPatch], None]] = [
    *(looks_at_no_clock, lives_again),
    *(looks_for_no_late_place, waits_for_nobody, lists_once),
]


@pytest.mark.parametrize("apply", BREAKS, ids=lambda apply: apply.__name__)
def test_what_is_broken_is_found(apply, monkeypatch):
    apply(monkeypatch)
    for seed in range(1, SEEDS_OF_A_BREAK + 1):
        try:
            World(seed).run()
        except AssertionError as error:
            print(f"seed {seed}: {error}")
            return
    pytest.fail(f"not found in {SEEDS_OF_A_BREAK} seeds")
