"""A look at SQLite's write-ahead log, for what SQLite passes over.

When SQLite opens a database after a crash it reads the log up to the first frame that
does not verify and forgets the rest. That is right for a commit that the crash tore:
nobody was answered. It is wrong for a flipped bit in a commit that was answered: that
commit and all behind it would be gone without a word.

Rule 1: every commit is synced before the next one begins, so a crash tears at most
        the last one. Two commits behind the end that SQLite found are damage.
Rule 2: the header of the log is synced before its first frame is written, so frames
        behind a header that does not verify are damage.
Rule 3: the writer empties the log when it opens it, so what a crash left there cannot
        be mistaken for something younger.

Rule 4: before that, it writes the log over itself. What could not be synced the kernel
        may have dropped, and shows as written all the same; no other sync brings that
        to the disk. Copied from there, it would be answered from, and a power loss
        would lay what is left of the log over the copy.

What this cannot see is a flipped bit in the very last commit of the log: that looks
like a torn one. The `released` file and the snapshots know that one.

Layout of the log (https://sqlite.org/fileformat2.html#walformat), big-endian:

    header  magic, version, page size, checkpoint number, salt 1, salt 2, checksum 1+2
    frame   page number, pages of the database after a commit or 0, salt 1, salt 2,
            checksum 1+2; then the page
"""

from __future__ import annotations

import os
import struct

from switch.journal.errors import JournalDamaged, JournalError

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
CHUNK_SIZE = 1 << 20
_MAGICS = (0x377F0682, 0x377F0683)  # checksums over little-endian, big-endian words


def check_tail(path: str, page_size: int, frames_used: int) -> None:
    """Raises JournalDamaged if the log at `path` has synced commits behind the first
    `frames_used` frames, which are all that SQLite took from it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _check(descriptor, path, page_size, frames_used)
    finally:
        os.close(descriptor)


def write_again(path: str) -> None:
    """The log at `path` is on the disk as it can be read here, whatever became of it
    before. Takes no room, and nothing changes for whoever reads it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    offset = 0
    try:
        while chunk := os.pread(descriptor, CHUNK_SIZE, offset):
            offset += os.pwrite(descriptor, chunk, offset)
        os.fsync(descriptor)
    except OSError as error:
        raise JournalError(
            "write-ahead log cannot be synced",
            path=path,
            byte=offset,
            got=error.strerror,
        ) from error
    finally:
        os.close(descriptor)


def _check(descriptor: int, path: str, page_size: int, frames_used: int) -> None:
    frame_size = _FRAME.size + page_size
    frame_count = (os.fstat(descriptor).st_size - _HEADER.size) // frame_size
    if frame_count <= frames_used:
        return
    header = os.pread(descriptor, _HEADER.size, 0)
    salts = header[16:24]
    if not _header_verifies(header):
        first = os.pread(descriptor, _FRAME.size, _HEADER.size)
        salts = first[8:16]
        repaired = header[:16] + salts + header[24:]
        if header[16:24] != salts and not _header_verifies(repaired):
            return  # frames of an earlier round, all of them checkpointed
        raise JournalDamaged(
            "header of the write-ahead log changed since it was written",
            path=path,
            byte=0,
            expected=f"a header that verifies before {frame_count} frames",
            got=f"{header.hex()}",
        )
    commits = []
    for index in range(frames_used, frame_count):
        offset = _HEADER.size + index * frame_size
        frame = os.pread(descriptor, _FRAME.size, offset)
        if frame[8:16] == salts and frame[4:8] != b"\0\0\0\0":
            commits.append(index)
    if len(commits) > 1:
        raise JournalDamaged(
            "write-ahead log changed since it was written",
            path=path,
            byte=_HEADER.size + frames_used * frame_size,
            expected=f"frames that verify up to frame {commits[-1] + 1}",
            got=f"{len(commits)} whole commits behind frame {frames_used}, "
            "the last that verifies",
        )


def _header_verifies(header: bytes) -> bool:
    magic = int.from_bytes(header[:4], "big")
    if magic not in _MAGICS:
        return False
    words = struct.unpack("<6I" if magic == _MAGICS[0] else ">6I", header[:24])
    first = second = 0
    for index in range(0, 6, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return header[24:] == struct.pack(">2I", first, second)
