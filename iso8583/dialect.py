"""Dialects: what a scheme means by fields whose meaning the standard leaves open.

A dialect lies beside its spec (`acme.dialect.json` beside `acme.json`), because two
schemes may share a layout and not a meaning. Places are written as paths: "15" is
field 15, "62.2" element 2 of field 62, "48.61.1" the first position of subelement 61
of field 48.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from iso8583.errors import SpecError
from iso8583.spec import (
    DIALECT_SUFFIX,
    FIELD_NUMBER_MAX,
    FIELD_NUMBER_MIN,
    SPEC_FILE_SIZE_MAX,
    Spec,
    spec_names,
)

__all__ = [
    "STANDARD",
    "Dialect",
    "Function",
    "FunctionCodes",
    "NetworkCodes",
    "PartialApproval",
    "load_dialect",
]

RESPONSE_CODE_FIELD: Final = 39
# -- ISO 8583:1987, field 70: network management information code, n 3.
FunctionCode: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{3}$")]
FieldPath: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){0,2}$")
]


class FunctionCodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One function of a network management message, by its codes in field 70."""

    send: FunctionCode
    # Beside the one that we send.
    accept: tuple[FunctionCode, ...] = ()

    @property
    def accepted(self) -> frozenset[str]:
        return frozenset({self.send, *self.accept})


Function: TypeAlias = Literal["sign_on", "sign_off", "echo"]


class NetworkCodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sign_on: FunctionCodes = FunctionCodes("001")
    sign_off: FunctionCodes = FunctionCodes("002")
    echo: FunctionCodes = FunctionCodes("301")

    def __post_init__(self) -> None:
        codes = [code for each in self.functions.values() for code in each.accepted]
        if len(set(codes)) != len(codes):
            raise SpecError("network: expected each code to mean one function")

    @property
    def functions(self) -> dict[Function, FunctionCodes]:
        return {"sign_on": self.sign_on, "sign_off": self.sign_off, "echo": self.echo}

    def function_of(self, code: str) -> Function | None:
        """What the peer asks with this code; None when we do not have it."""
        for function, codes in self.functions.items():
            if code in codes.accepted:
                return function
        return None


class PartialApproval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a request says that less than its amount may be approved."""

    field: FieldPath
    values: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Dialect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without anything said: ISO 8583:1987 itself."""

    network: NetworkCodes = NetworkCodes()
    # Where the scheme's own id of a transaction is; several are one id together.
    trace_id: tuple[FieldPath, ...] = ()
    partial_approval: PartialApproval | None = None
    # Fields that its replies echo beside those of the standard.
    echoed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for number in sorted(self.fields):
            if not FIELD_NUMBER_MIN <= number <= FIELD_NUMBER_MAX:
                raise SpecError(
                    f"expected field numbers in "
                    f"{FIELD_NUMBER_MIN}..{FIELD_NUMBER_MAX}, got {number}"
                )
        if RESPONSE_CODE_FIELD in self.echoed:
            raise SpecError(
                f"expected fields to echo other than {RESPONSE_CODE_FIELD}, which "
                "every reply has of its own"
            )

    @property
    def fields(self) -> frozenset[int]:
        """Every field that the dialect speaks of."""
        paths = list(self.trace_id)
        if self.partial_approval is not None:
            paths.append(self.partial_approval.field)
        numbers = {int(path.partition(".")[0]) for path in paths}
        return frozenset(numbers | {*self.echoed})


STANDARD: Final = Dialect()


def load_dialect(name_or_path: str | os.PathLike[str], spec: Spec) -> Dialect:
    """The dialect beside the spec of this name or path; ISO 8583's if there is none.

    `spec` is the one loaded: the dialect may speak of its fields only.
    """
    name = os.fspath(name_or_path)
    folder = resources.files("iso8583") / "specs"
    path = Path(name.removesuffix(".json") + DIALECT_SUFFIX)
    beside = folder / path.name if name in spec_names() else path
    if not beside.is_file():
        return STANDARD
    try:
        with beside.open("rb") as file:
            content = file.read(SPEC_FILE_SIZE_MAX + 1)
    except OSError as error:
        raise SpecError(f"{beside}: {error.strerror}") from None
    if len(content) > SPEC_FILE_SIZE_MAX:
        raise SpecError(f"{beside}: expected at most {SPEC_FILE_SIZE_MAX} bytes")
    try:
        dialect = msgspec.json.decode(content, type=Dialect)
    except msgspec.MsgspecError as error:
        raise SpecError(f"{beside}: {error}") from None
    missing = sorted(dialect.fields - spec.fields.keys())
    if missing:
        raise SpecError(f"{beside}: expected fields of the spec, got {missing}")
    return dialect
