"""Messages as people write them: `4 = 1500`, `49 = EUR`, and the rest filled in.

Rule 1: what is given is sent. A value that is too short for a field of fixed length is
        filled up as ISO 8583 does: numbers with zeros on the left, text with blanks
        on the right. One that is too long is an error.
Rule 2: what is not given and every message needs is made: fields 7 (UTC), 11, 12, 13
        (local time) and 37. A field given as "" is left out.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

import iso8583
from switch.replay.errors import RequestError

Fields = dict[int | str, str]

MTI: Final = "mti"
HEADER: Final = "header"
# codes of currencies, which may be given by their letters
CURRENCY_FIELDS: Final = frozenset({49, 50, 51})
ENTRY_MODE_FIELD: Final = 22
# binary data, amounts with a sign, tracks: nobody can say what to fill them with
UNFILLED: Final = ("b", "x+n", "z")
STAN_MAX: Final = 999_999
RRN_MAX: Final = 10**12 - 1
# A network management message (second digit 8) is about no transaction.
NETWORK_CLASS: Final = "8"
PRESENT: Final = "*"
COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def filled(codec: iso8583.Codec, number: int, value: str) -> str:
    """A value as long as its field, if that has a fixed length."""
    field = codec.spec.fields.get(number)
    if field is None or field.prefix_digits or field.content in UNFILLED:
        return value
    if number == ENTRY_MODE_FIELD:
        # Three digits in the standard, four at Visa, whose last is a zero.
        return value.ljust(field.length, "0")
    if field.content == "n":
        return value.rjust(field.length, "0")
    return value.ljust(field.length)


class Composer:
    """Makes the messages of one sender: trace numbers go up from one to the next."""

    def __init__(
        self,
        codec: iso8583.Codec,
        currencies: Mapping[str, int],
        now: Callable[[], datetime.datetime] = utc_now,
        header: Mapping[str, str] | None = None,
    ) -> None:
        self.codec = codec
        self._currencies = currencies
        self._now = now
        self._header = {HEADER: header} if header else {}
        # two runs shortly after each other do not send the same ones
        first = int(now().timestamp() * 1000)
        self._stan = first % STAN_MAX
        self._rrn = first % RRN_MAX

    def compose(self, given: Mapping[int | str, str]) -> iso8583.Message:
        """The whole message; raises RequestError, which never quotes a value."""
        mti = given.get(MTI, "")
        if not mti:
            raise RequestError("mti: expected a message type, got none")
        fields = self._automatic(mti) | dict(given)
        try:
            return self.codec.message(
                {
                    **self._header,
                    **{
                        name: value if name == MTI else self.fit(int(name), value)
                        for name, value in fields.items()
                        if value != ""
                    },
                }
            )
        except iso8583.EncodeError as error:
            raise RequestError(str(error)) from None

    def check(self, names: Iterable[int | str]) -> None:
        """Raises RequestError for a field that the specification does not have."""
        spec = self.codec.spec
        for name in names:
            if name != MTI and name not in spec.fields:
                raise RequestError(
                    f"field {name}: expected one that specification {spec.name} has"
                )

    def fit(self, number: int, value: str) -> str:
        """The value as its field has it; what cannot be fitted is left as it is."""
        self.check([number])
        if number in CURRENCY_FIELDS and value.upper() in self._currencies:
            value = f"{self._currencies[value.upper()]:03d}"
        return filled(self.codec, number, value)

    def matches(self, number: int | str, pattern: str, value: str | None) -> bool:
        """Whether a field is as expected.

        "" is a field that isn't there, "*" one that is; ">1000", "<=500" and "10..20"
        compare numbers, "00|10" names several, "99*" and "4?" are as in file names.
        """
        if pattern == "" or value is None:
            return pattern == "" and value is None
        if pattern == PRESENT:
            return True
        if "|" in pattern:
            return any(self.matches(number, p, value) for p in pattern.split("|"))
        if (bounds := _bounds(pattern)) is not None:
            low, high = bounds
            return value.isdigit() and low <= int(value) <= high
        for sign, compare in COMPARISONS.items():
            bound = pattern.removeprefix(sign)
            if bound != pattern and bound.isdigit():
                return value.isdigit() and compare(int(value), int(bound))
        literal = pattern if number == MTI else self.fit(int(number), pattern)
        return value == literal or fnmatchcase(value, pattern)

    def _automatic(self, mti: str) -> Fields:
        now = self._now()
        here = now.astimezone()
        self._stan = self._stan % STAN_MAX + 1
        fields: Fields = {7: f"{now:%m%d%H%M%S}", 11: f"{self._stan:06d}"}
        if mti[1:2] != NETWORK_CLASS:
            self._rrn = self._rrn % RRN_MAX + 1
            fields |= {12: f"{here:%H%M%S}", 13: f"{here:%m%d}"}
            fields[37] = f"{self._rrn:012d}"
        known = self.codec.spec.fields
        return {number: value for number, value in fields.items() if number in known}


def _bounds(pattern: str) -> tuple[int, int] | None:
    low, dots, high = pattern.partition("..")
    if dots and low.isdigit() and high.isdigit():
        return int(low), int(high)
    return None


def field_name(text: str) -> int | str:
    """`mti`, or the number of a field."""
    name = text.strip().lower()
    if name == MTI:
        return MTI
    if name.isascii() and name.isdigit() and len(name) <= 3:
        return int(name)
    # how it looks is not shown: it may be anything, a card number too
    raise RequestError("expected mti or the number of a field, got another name")


def field_names(given: Mapping[str, str | int]) -> Fields:
    return {field_name(name): str(value) for name, value in given.items()}
