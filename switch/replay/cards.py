"""Card files: the cards that traffic is made with (`pan,account,expiry,status`), and
those that stand in for captured ones (`from,to`)."""

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


CardMap = dict[str, str]


def read_cards(path: Path) -> Iterator[TrafficCard]:
    """Every card of the file, whatever its status: declines are traffic too."""
    for place, pan, expiry in _rows(path, "pan", "expiry"):
        _check_pan(place, pan)
        if not _is_digits(expiry) or len(expiry) != 4:
            raise CardFileError(f"{place}: expected an expiry YYMM, got {expiry!r}")
        yield TrafficCard(pan.encode(), expiry.encode())


def read_card_map(path: Path) -> CardMap:
    """By captured PAN, the one to send instead."""
    cards: CardMap = {}
    for place, captured, sent in _rows(path, "from", "to"):
        _check_pan(place, captured)
        _check_pan(place, sent)
        # a message has no room for more digits, nor a BCD field a way to have fewer
        if len(captured) != len(sent):
            raise CardFileError(
                f"{place}: expected two PANs of one length, got {len(captured)} and "
                f"{len(sent)} digits"
            )
        cards[captured] = sent
    return cards


def _rows(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Where each row is, and its values in these columns."""
    with path.open(newline="", encoding="ascii", errors="replace") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if not set(columns) <= set(header):
            raise CardFileError(
                f"{path}: line 1: expected the columns {' and '.join(columns)}, "
                f"got {len(header)} others"
            )
        indices = [header.index(column) for column in columns]
        columns_needed = max(indices) + 1
        for row in rows:
            if not row:
                continue
            place = f"{path}: line {rows.line_num}"
            if len(row) < columns_needed:
                raise CardFileError(
                    f"{place}: expected at least {columns_needed} columns, "
                    f"got {len(row)}"
                )
            yield place, *(row[index].strip() for index in indices)


def _check_pan(place: str, pan: str) -> None:
    if not _is_digits(pan) or not PAN_SIZE_MIN <= len(pan) <= PAN_SIZE_MAX:
        # how it looks is not shown: it may be a card number
        raise CardFileError(
            f"{place}: expected a PAN of {PAN_SIZE_MIN} to {PAN_SIZE_MAX} digits, "
            f"got {len(pan)} characters"
        )


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
