"""The cards that traffic is made with: `pan,account,expiry,status`."""

import csv
from collections.abc import Iterator
from pathlib import Path

import msgspec

from switch.replay.errors import CardFileError
from switch.replay.request import PAN_SIZE_MAX, PAN_SIZE_MIN


class TrafficCard(msgspec.Struct, frozen=True, gc=False):
    pan: bytes
    expiry: bytes

    # A PAN never reaches a log by way of a traceback's arguments.
    def __repr__(self) -> str:
        return f"TrafficCard(…{self.pan[-4:].decode()})"


def read_cards(path: Path) -> Iterator[TrafficCard]:
    """Every card of the file, whatever its status: declines are traffic too."""
    with path.open(newline="", encoding="ascii", errors="replace") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        try:
            pan_column = header.index("pan")
            expiry_column = header.index("expiry")
        except ValueError:
            raise CardFileError(
                f"{path}: line 1: expected the columns pan and expiry, "
                f"got {len(header)} others"
            ) from None
        columns_needed = max(pan_column, expiry_column) + 1
        for row in rows:
            if not row:
                continue
            if len(row) < columns_needed:
                raise CardFileError(
                    f"{path}: line {rows.line_num}: expected at least "
                    f"{columns_needed} columns, got {len(row)}"
                )
            pan, expiry = row[pan_column].strip(), row[expiry_column].strip()
            if not _is_digits(pan) or not PAN_SIZE_MIN <= len(pan) <= PAN_SIZE_MAX:
                # how it looks is not shown: it may be a card number
                raise CardFileError(
                    f"{path}: line {rows.line_num}: expected a PAN of {PAN_SIZE_MIN} "
                    f"to {PAN_SIZE_MAX} digits, got {len(pan)} characters"
                )
            if not _is_digits(expiry) or len(expiry) != 4:
                raise CardFileError(
                    f"{path}: line {rows.line_num}: expected an expiry YYMM, "
                    f"got {expiry!r}"
                )
            yield TrafficCard(pan.encode(), expiry.encode())


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
