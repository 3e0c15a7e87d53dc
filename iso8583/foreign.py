"""What readers of other programs' specs share: faults, numbers, and what to mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from iso8583.errors import SpecError
from iso8583.spec import LENGTH_MAX, FieldSpec, Sensitive, Spec, load_spec

__all__ = ["Faults", "Fields", "is_possible", "masked_kind", "whole_number"]

Fields: TypeAlias = dict[int, FieldSpec]

NUMBER_DIGITS_MAX: Final = 6


class Faults:
    """What cannot be expressed: raised, or gathered where somebody takes a list."""

    def __init__(self, gathered: list[str] | None = None) -> None:
        self._gathered = gathered

    def add(self, fault: str) -> None:
        if self._gathered is None:
            raise SpecError(fault)
        self._gathered.append(fault)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        try:
            yield
        except SpecError as error:
            text = str(error)
            self.add(text if text.startswith("field ") else f"{place}: {text}")


def whole_number(place: str, name: str, text: str | None, least: int = 0) -> int:
    digits = text or ""
    if digits.isascii() and digits.isdigit() and len(digits) <= NUMBER_DIGITS_MAX:
        number = int(digits)
        if least <= number <= LENGTH_MAX:
            return number
    shown = digits[:20]
    raise SpecError(f"{place}: {name}: expected {least}..{LENGTH_MAX}, got {shown!r}")


def is_possible(
    number: int, field: FieldSpec, bitmaps: Literal[2, 3], faults: Faults
) -> bool:
    """Whether a spec of so many bitmaps may have this field; a fault if not."""
    with faults.at(f"field {number}"):
        Spec(
            name="",
            mti="ascii",
            bitmap="hex",
            bitmaps=bitmaps,
            prefix_encoding="ascii",
            fields={number: field},
        )
        return True
    return False


@lru_cache(maxsize=1)
def _standard() -> dict[int, FieldSpec]:
    return load_spec("iso87-ascii").fields


def masked_kind(number: int) -> Sensitive | None:
    """What a field is masked as: other programs' specs do not say."""
    field = _standard().get(number)
    return "private" if field is None else field.sensitive
