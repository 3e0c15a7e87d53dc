"""What an operator is answered instead of a result.

AdminError          status, and what was expected
└── ImportBad       the rows of an import that cannot be taken
"""

from __future__ import annotations

from typing import Final

# Of what `ChangeRefused` says.
STATUS_OF: Final = {"invalid": 422, "missing": 404, "conflict": 409, "full": 503}


class AdminError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ImportBad(AdminError):  # noqa: N818 -- what happened, not what is wrong
    """Nothing was imported."""

    def __init__(self, problems: list[str], count: int) -> None:
        rows = "1 bad row" if count == 1 else f"{count:,} bad rows"
        super().__init__(422, f"nothing imported: {rows}")
        self.problems = problems
        self.count = count
