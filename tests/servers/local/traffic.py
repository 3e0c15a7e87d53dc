"""A simulated scheme at each node, which comes back when its node does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import iso8583
from switch.cli.demo_view import Tally
from switch.link._framing import Framing
from switch.replay.bank import Bank
from switch.replay.client import Client
from switch.replay.errors import SessionError
from switch.replay.scheme import Scheme
from tests.servers.local.layout import LINK_PORT

SPEC, FRAMING = "iso87-ascii", "binary2"
REDIAL_SECONDS = 0.5
SIGN_OFF_SECONDS = 2.0
# More than a scheme sends: no two of them name a message alike.
NUMBERS_APART = 10**7


class Terminal:
    """One scheme's connection to one node, and what came of what it sent."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.tally = Tally()
        self.is_up = False
        self.times_lost = 0


class Traffic:
    def __init__(self, bank: Bank, addresses: Sequence[str], *, rate: float) -> None:
        self.terminals = [
            Terminal(f"node{index}", address)
            for index, address in enumerate(addresses, 1)
        ]
        self._bank = bank
        self._rate = rate
        self._codec = iso8583.Codec(iso8583.load_spec(SPEC))

    async def play(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for seed, terminal in enumerate(self.terminals, 1):
                group.create_task(self._play(seed, terminal))

    async def _play(self, seed: int, terminal: Terminal) -> None:
        while True:
            with suppress(SessionError):
                await self._play_once(seed, terminal)
            terminal.is_up = False
            # Another seed: it would buy the same again.
            seed += len(self.terminals)
            await asyncio.sleep(REDIAL_SECONDS)

    async def _play_once(self, seed: int, terminal: Terminal) -> None:
        async with Client(
            terminal.address, LINK_PORT, self._codec, Framing(FRAMING, False)
        ) as client:
            terminal.is_up = True
            scheme = Scheme(
                client,
                self._bank,
                per_second=self._rate,
                seed=seed,
                on_exchange=terminal.tally.add,
                rrn_first=seed * NUMBERS_APART,
            )
            try:
                await scheme.play()
            finally:
                if client.lost is None:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(SIGN_OFF_SECONDS):
                            await scheme.sign_off()
            terminal.times_lost += 1
