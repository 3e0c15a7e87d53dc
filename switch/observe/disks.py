"""How full the disks are that the switch writes to.

Rule 1: the disk is asked by whoever may wait for it; a scrape reads what it said last.
Rule 2: what is nearly full is said once, and once more when it is not any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from switch.observe.log import event
from switch.observe.metrics import Sample

_log = logging.getLogger("switch.disks")

# A million purchases take about so much. A small disk is nearly full at a tenth of it.
FREE_BYTES_LOW = 1 << 30
FREE_PART_LOW = 10
DISKS_INTERVAL_S = 10.0


class Room(Struct, frozen=True):
    free_bytes: int
    size_bytes: int

    @property
    def is_low(self) -> bool:
        return self.free_bytes < min(FREE_BYTES_LOW, self.size_bytes // FREE_PART_LOW)


def room_at(path: Path) -> Room:
    """On the disk of a directory, or of the one that it will be made in."""
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    # What is kept for root is not ours.
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class Disks:
    """`directories`: by the name that the metrics have for them."""

    def __init__(
        self,
        directories: Mapping[str, Path],
        measure: Callable[[Path], Room] = room_at,
    ) -> None:
        self._directories = dict(directories)
        self._measure = measure
        self._rooms: dict[str, Room] = {}

    def look(self) -> None:
        """Asks the disks, which may take as long as they like."""
        for name, path in self._directories.items():
            was_low = name in self.low()
            try:
                self._rooms[name] = self._measure(path)
            except OSError as error:
                self._rooms.pop(name, None)
                event(
                    _log,
                    logging.WARNING,
                    "disk does not say how full it is",
                    directory=name,
                    path=path,
                    reason=(error.strerror or str(error)).lower(),
                )
                continue
            if self._rooms[name].is_low != was_low:
                self._say(name, path, self._rooms[name])

    async def watch(self) -> None:
        """For ever, and not on the loop: a disk that hangs keeps whoever asks it."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, self.look)
            await asyncio.sleep(DISKS_INTERVAL_S)

    def low(self) -> dict[str, str]:
        """The directories whose disk is nearly full, and how full it is."""
        return {
            name: f"{room.free_bytes} of {room.size_bytes} bytes are free"
            for name, room in list(self._rooms.items())
            if room.is_low
        }

    def samples(self) -> Iterator[Sample]:
        for name, room in list(self._rooms.items()):
            yield Sample("disk_free_bytes", room.free_bytes, (name,))
            yield Sample("disk_size_bytes", room.size_bytes, (name,))

    def _say(self, name: str, path: Path, room: Room) -> None:
        event(
            _log,
            logging.WARNING if room.is_low else logging.INFO,
            "disk is nearly full: make room" if room.is_low else "disk has room again",
            directory=name,
            path=path,
            free_bytes=room.free_bytes,
            size_bytes=room.size_bytes,
        )
