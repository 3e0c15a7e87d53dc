"""What a look finds, as one line."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warning", "error"]


class Finding(Struct, frozen=True):
    """`check` is what was looked at. Of what is well, `got` says what it is; of all
    else, `expected` and `got` say what is wrong, and `advice` what to do."""

    check: str
    level: Level
    got: str
    expected: str = ""
    advice: str = ""

    @property
    def text(self) -> str:
        if not self.expected:
            return self.got
        text = f"expected {self.expected}, got {self.got}"
        return f"{text}: {self.advice}" if self.advice else text


def ok(check: str, got: str) -> Finding:
    return Finding(check, "ok", got)


def warning(check: str, expected: str, got: str, advice: str = "") -> Finding:
    return Finding(check, "warning", got, expected, advice)


def error(check: str, expected: str, got: str, advice: str = "") -> Finding:
    return Finding(check, "error", got, expected, advice)
