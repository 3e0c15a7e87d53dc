"""The table of a running cluster: live at a terminal, now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from switch.replay.response import response_text
from tests.servers.local.layout import LINK_PORT
from tests.servers.local.machines import Machines
from tests.servers.local.traffic import Terminal
from tests.servers.local.watching import Figures, Watching

REFRESHES_PER_S = 2
# Of blocks that scroll by: less and less often, for nobody clears them away.
PLAIN_SECONDS_MIN, PLAIN_SECONDS_MAX = 5.0, 60.0
SHARDS_SHOWN_CHARACTERS = 40
CODES_SHOWN = 6
COLUMNS = (
    *("node", "link", "shards", "answers/s", "p50 ms", "p99 ms"),
    *("entries/s", "commits/s", "asked by others/s", "head", "lease"),
)
LEFT = ("node", "link", "lease")


class Scene:
    """All that is shown."""

    def __init__(
        self, machines: Machines, watching: Watching, terminals: list[Terminal]
    ) -> None:
        self.machines = machines
        self.watching = watching
        self.terminals = terminals

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in LEFT else "right")
        for row in self.rows():
            table.add_row(*row)
        return table

    def rows(self) -> Iterator[tuple[str, ...]]:
        found = self.watching.status
        leases = {} if found is None else {m.node: m.lease for m in found.members}
        for terminal, figures in zip(
            self.terminals, self.watching.figures, strict=True
        ):
            yield self._row(terminal, figures, leases.get(terminal.name, "-"))

    def _row(self, terminal: Terminal, figures: Figures, lease: str) -> tuple[str, ...]:
        tally = terminal.tally
        state = "" if figures.is_up and terminal.is_up else " (down)"
        return (
            terminal.name + state,
            f"{terminal.address}:{LINK_PORT}",
            _number(figures.shards),
            f"{tally.per_second():.1f}",
            f"{tally.quantile_ms(0.5):.1f}",
            f"{tally.quantile_ms(0.99):.1f}",
            _number(figures.entries_a_second, 1),
            _number(figures.commits_a_second, 1),
            _number(figures.asked_a_second, 1),
            _number(figures.head),
            lease,
        )

    def lines(self) -> Iterator[str]:
        """What else there is to say."""
        found = self.watching.status
        if self.watching.trouble:
            yield f"journal or etcd: {self.watching.trouble}"
        elif found is not None:
            is_open = sum(shard.is_open for shard in found.shards)
            yield f"shards open: {is_open} of {len(found.shards)}"
            for member in found.members:
                owned = [s.shard for s in found.shards if s.owner == member.node]
                yield f"  {member.node}: {spans(owned)}"
        ended = self.machines.ended()
        running = sum(1 for _ in self.machines.servers()) - len(ended)
        yield f"processes: {running} run" + (
            f", ended: {', '.join(ended)}" if ended else ""
        )
        published: dict[str, float] = {}
        for figures in self.watching.figures:
            for engine, count in figures.published.items():
                published[engine] = published.get(engine, 0) + count
        for engine, count in published.items():
            yield f"published to {engine}: {count:,.0f} events"
        yield self._codes()

    def _codes(self) -> str:
        codes: Counter[str] = Counter()
        for terminal in self.terminals:
            codes += terminal.tally.codes
        most = codes.most_common(CODES_SHOWN)
        said = (f"{code} {response_text(code)} {count:,}" for code, count in most)
        return "answers: " + (", ".join(said) or "none yet")

    def addresses(self) -> list[str]:
        node = self.machines.nodes[0]
        links = ", ".join(each.link for each in self.machines.nodes)
        return [
            f"links             {links}",
            f"accounts          {node.url}/api/accounts/DEMO00001",
            f"a node's file     {node.config}",
            "elsewhere         scripts/cluster status, scripts/cluster down",
        ]


class View(Protocol):
    def open(self) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


class PlainView:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._console = Console(highlight=False, width=160)
        self._print_at = 0.0
        self._pause = PLAIN_SECONDS_MIN

    def open(self) -> None:
        self._print_at = time.monotonic() + self._pause
        print("\n".join(self._scene.addresses()), flush=True)

    def tick(self) -> None:
        if time.monotonic() >= self._print_at:
            self._pause = min(2 * self._pause, PLAIN_SECONDS_MAX)
            self._print_at += self._pause
            self._print()

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        self._console.print(self._scene.table())
        print("\n".join(self._scene.lines()), flush=True)


class LiveView:
    def __init__(self, scene: Scene, console: Console) -> None:
        self._scene = scene
        self._live = Live(
            console=console, get_renderable=self._render, auto_refresh=False
        )
        self._refresh_at = 0.0

    def open(self) -> None:
        self._live.start()

    def tick(self) -> None:
        if time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + 1 / REFRESHES_PER_S
            self._live.refresh()

    def close(self) -> None:
        self._live.refresh()
        self._live.stop()

    def _render(self) -> Group:
        scene = self._scene
        return Group(
            Text("\n".join(scene.addresses()), style="dim"),
            Text(),
            scene.table(),
            Text(),
            Text("\n".join(scene.lines())),
            Text("Ctrl-C ends it", style="bold"),
        )


def make_view(scene: Scene) -> View:
    console = Console(highlight=False)
    return LiveView(scene, console) if console.is_terminal else PlainView(scene)


def spans(numbers: list[int]) -> str:
    """0-3 7 9-12, cut when it is long."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    parts = (f"{s[0]}-{s[-1]}" if len(s) > 1 else f"{s[0]}" for s in found)
    text = " ".join(parts) or "none"
    if len(text) <= SHARDS_SHOWN_CHARACTERS:
        return text
    return f"{text[:SHARDS_SHOWN_CHARACTERS]}… ({len(numbers)})"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
