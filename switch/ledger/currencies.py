"""Currencies by their ISO 4217 letters and numbers, from the maintenance agency's table
(list one, as the package `iso4217` carries it)."""

from typing import Final

import iso4217

# Of the codes in the table, those that money can be kept in: the funds and metals in it
# have no minor unit. 999 is "no currency", 963 is for tests.
NUMBERS: Final[dict[str, int]] = {
    str(letters): int(row["CcyNbr"])  # type: ignore[arg-type]
    for letters, row in iso4217.raw_table.items()
    if letters and str(row["CcyMnrUnts"]).isdigit()
}
_LETTERS: Final = {number: letters for letters, number in NUMBERS.items()}


def letters_of(number: int) -> str:
    """The letters of a currency; what the table does not have keeps its number."""
    return _LETTERS.get(number) or f"{number:03d}"
