"""The switch on a disk that fills up, or hangs, whenever a file says so.

    python -m tests.end_to_end.faulty_disk FOLDER serve --data ...

While FOLDER/full exists, no log of SQLite takes another byte; while FOLDER/hangs
exists, no sync of one returns. The journal asks its disk through SQLite, so that is
where it happens: the kernel and the other files know nothing of it.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from tests.disks import Quiet

POLL_SECONDS = 0.005
# By name: the default one will be ours.
BASE = "unix"


class Disk(Quiet, apsw.VFS):
    """Every file that is opened without another VFS is on it."""

    def __init__(self, folder: Path) -> None:
        self.full = folder / "full"
        self.hangs = folder / "hangs"
        super().__init__("faulty", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> "DiskFile":  # noqa: N802
        return DiskFile(self, name, flags)


class DiskFile(Quiet, apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self._disk = disk
        self._is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._is_log and self._disk.full.exists():
            raise apsw.FullError("no space left on the test's device")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        while self._is_log and self._disk.hangs.exists():
            time.sleep(POLL_SECONDS)
        super().xSync(flags)


def main() -> int:
    disk = Disk(Path(sys.argv[1]))
    run: Callable[[list[str]], int]
    from switch.cli.main import main as run

    try:
        return run(sys.argv[2:])
    finally:
        disk.unregister()


if __name__ == "__main__":
    sys.exit(main())
