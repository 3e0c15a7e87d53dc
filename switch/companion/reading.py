"""Commits of the journal in batches, from where a reader is to the released head."""

from collections.abc import Iterator

from switch.journal.port import Commit, Journal


class Reading:
    """One reader's place. What it read and did not use is forgotten by `restart`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        # Kept from batch to batch, for it reads ahead.
        self._commits: Iterator[Commit] | None = None

    def batch(
        self, position: int, head: int, entries_max: int
    ) -> tuple[list[Commit], bool]:
        """The next commits, and whether the batch is full rather than at the head."""
        commits: list[Commit] = []
        entries = 0
        reading = self._commits
        if reading is None:
            reading = self._journal.read(position, head - position)
        self._commits = reading
        for commit in reading:
            assert position < commit.number <= head, (position, commit.number, head)
            commits.append(commit)
            entries += sum(record.count for record in commit.records)
            if entries >= entries_max:
                return commits, True
        self._commits = None
        return commits, False

    def restart(self) -> None:
        self._commits = None
