from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from switch.observe.disks import FREE_BYTES_LOW, Disks, Room, room_at
from switch.observe.metrics import Sample

GIB = 1 << 30
DATA, EVENTS = Path("/data"), Path("/events")


class Machine:
    """Two disks, as the test has them."""

    def __init__(self):
        # None: it does not answer.
        self.rooms: dict[Path, Room | None] = {
            DATA: Room(50 * GIB, 100 * GIB),
            EVENTS: Room(50 * GIB, 100 * GIB),
        }

    def measure(self, path):
        room = self.rooms[path]
        if room is None:
            raise OSError(errno.EIO, "Input/output error")
        return room

    def disks(self):
        return Disks({"data": DATA, "events": EVENTS}, self.measure)


def said(caplog):
    return [
        (record.message, record.switch_fields["directory"]) for record in caplog.records
    ]


def test_before_anybody_has_looked_nothing_is_told():
    disks = Machine().disks()
    assert list(disks.samples()) == []
    assert disks.low() == {}


def test_what_the_disks_said_last_is_told():
    machine = Machine()
    disks = machine.disks()
    disks.look()
    machine.rooms[EVENTS] = Room(3 * GIB, 8 * GIB)
    disks.look()
    assert list(disks.samples()) == [
        Sample("disk_free_bytes", 50 * GIB, ("data",)),
        Sample("disk_size_bytes", 100 * GIB, ("data",)),
        Sample("disk_free_bytes", 3 * GIB, ("events",)),
        Sample("disk_size_bytes", 8 * GIB, ("events",)),
    ]


@pytest.mark.parametrize(
    ("free", "size", "is_low"),
    [
        (FREE_BYTES_LOW, 100 * GIB, False),
        (FREE_BYTES_LOW - 1, 100 * GIB, True),
        (GIB // 10, GIB, False),
        (GIB // 10 - 1, GIB, True),
        (0, 0, False),
    ],
)
def test_when_a_disk_is_nearly_full(free, size, is_low):
    assert Room(free, size).is_low == is_low


def test_nearly_full_is_said_once_and_once_that_it_is_over(caplog):
    caplog.set_level("INFO")
    machine = Machine()
    disks = machine.disks()
    for free in (50, 0, 0, 50, 50, 0):
        machine.rooms[EVENTS] = Room(free * GIB, 100 * GIB)
        disks.look()
        expected = {} if free else {"events": f"0 of {100 * GIB} bytes are free"}
        assert disks.low() == expected
    assert said(caplog) == [
        ("disk is nearly full: make room", "events"),
        ("disk has room again", "events"),
        ("disk is nearly full: make room", "events"),
    ]


def test_a_disk_that_does_not_answer_is_not_told_of_and_the_other_is(caplog):
    machine = Machine()
    disks = machine.disks()
    disks.look()
    machine.rooms[DATA] = None
    disks.look()
    assert {sample.labels for sample in disks.samples()} == {("events",)}
    assert said(caplog) == [("disk does not say how full it is", "data")]


def test_a_real_disk_is_asked_also_for_a_directory_that_is_not_made_yet(tmp_path):
    size = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    for path in (tmp_path, tmp_path / "not" / "there"):
        room = room_at(path)
        assert room.size_bytes == size
        assert 0 <= room.free_bytes <= size
    # A file system of the kernel has no room at all, and says so.
    assert room_at(Path("/proc/self")) == Room(0, 0)
