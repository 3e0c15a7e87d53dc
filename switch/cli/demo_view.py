"""What the demonstration shows: a live table at a terminal, plain lines elsewhere."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from switch.replay._traffic import Histogram
from switch.replay.response import response_text
from switch.replay.scheme import Exchange

EXCHANGES_SHOWN: Final = 12
EXCHANGES_SHOWN_MIN: Final = 3
CODES_SHOWN: Final = 10
# what is on the screen beside the exchanges, with the fewest lines it can have
LINES_BESIDE: Final = 16
LINES_OF_ACCOUNTS: Final = 5
RATE_SPAN_S: Final = 5.0
EXCHANGES_REMEMBERED_MAX: Final = 10_000
SUMMARY_INTERVAL_S: Final = 5.0
REFRESHES_PER_S: Final = 4
STYLES: Final = {"00": "green", "": "bold red"}


class Addresses(msgspec.Struct, frozen=True):
    switch: str
    wire: str
    http: str
    events: str
    cards: str


class Tally:
    """What has happened so far."""

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.recent: deque[Exchange] = deque(maxlen=EXCHANGES_SHOWN)
        self.codes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.latencies_ns = Histogram()
        self.asked = 0
        self.answered = 0
        self.repeats_same = 0
        self.repeats_other = 0
        self.accounts: dict[str, Mapping[str, Any]] = {}
        self._times: deque[float] = deque(maxlen=EXCHANGES_REMEMBERED_MAX)

    def add(self, exchange: Exchange) -> None:
        self.asked += 1
        self.recent.append(exchange)
        self.kinds[exchange.what] += 1
        if not exchange.answered:
            return
        self.answered += 1
        self.codes[exchange.response_code] += 1
        self.latencies_ns.add(int(exchange.elapsed_ms * 1e6))
        self._times.append(time.monotonic())
        if exchange.same_answer is not None:
            self.repeats_same += exchange.same_answer
            self.repeats_other += not exchange.same_answer

    def touched(self, count_max: int) -> list[str]:
        """The accounts that money moved on last."""
        names = (e.account for e in reversed(self.recent) if e.account)
        return list(dict.fromkeys(names))[:count_max]

    def set_account(
        self, account: str, figures: Mapping[str, Any], count_max: int
    ) -> None:
        self.accounts.pop(account, None)
        self.accounts[account] = figures
        while len(self.accounts) > count_max:
            del self.accounts[next(iter(self.accounts))]

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_at

    def per_second(self) -> float:
        now = time.monotonic()
        while self._times and self._times[0] < now - RATE_SPAN_S:
            self._times.popleft()
        return len(self._times) / max(0.1, min(RATE_SPAN_S, self.elapsed_s))

    def quantile_ms(self, quantile: float) -> float:
        return self.latencies_ns.at_quantile(quantile) / 1e6

    def summary(self) -> str:
        return (
            f"{self.answered} of {self.asked} answered, {self.per_second():.1f}/s, "
            f"p50 {self.quantile_ms(0.5):.1f} ms, p99 {self.quantile_ms(0.99):.1f} ms"
        )


class View(Protocol):
    def open(self, addresses: Addresses, tally: Tally) -> None: ...
    def show(self, exchange: Exchange) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


class PlainView:
    """A line for each message, and a summary now and then."""

    def open(self, addresses: Addresses, tally: Tally) -> None:
        self._tally = tally
        self._summary_at = time.monotonic() + SUMMARY_INTERVAL_S
        for line in address_lines(addresses):
            print(line, flush=True)

    def show(self, exchange: Exchange) -> None:
        at = time.strftime("%H:%M:%S", time.localtime(exchange.at))
        parts = (exchange.mti, exchange.what, exchange.pan, exchange.amount)
        said = answer_text(exchange)
        print(at, *filter(None, parts), "→", said, flush=True)

    def tick(self) -> None:
        if time.monotonic() >= self._summary_at:
            self._summary_at += SUMMARY_INTERVAL_S
            print(f"-- {self._tally.summary()}", flush=True)

    def close(self) -> None:
        pass


class LiveView:
    """The same as a table that stays in its place."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def open(self, addresses: Addresses, tally: Tally) -> None:
        self._addresses, self._tally = addresses, tally
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_S,
            auto_refresh=False,
        )
        self._live.start()

    def show(self, exchange: Exchange) -> None:
        pass

    def tick(self) -> None:
        self._live.refresh()

    def close(self) -> None:
        self._live.refresh()
        self._live.stop()

    def _render(self) -> Group:
        lines_left = self._console.height - LINES_BESIDE
        exchange_count = max(EXCHANGES_SHOWN_MIN, min(EXCHANGES_SHOWN, lines_left))
        lines_left -= exchange_count
        code_count = min(CODES_SHOWN, LINES_OF_ACCOUNTS + max(0, lines_left))
        columns = Table.grid(padding=(0, 3))
        columns.add_row(self._codes(code_count), self._accounts())
        where = Text("\n".join(address_lines(self._addresses)), style="dim")
        return Group(
            Panel(where, title="a switch, its demo bank and a simulated scheme"),
            self._exchanges(exchange_count),
            columns,
            Text(f"{self._tally.summary()}   Ctrl-C ends it", style="bold"),
        )

    def _exchanges(self, count: int) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
        for name in ("time", "type", "", "card", "amount", "answer", "ms"):
            right = name in ("amount", "ms")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        shown = list(self._tally.recent)[-count:]
        for exchange in shown:
            table.add_row(
                time.strftime("%H:%M:%S", time.localtime(exchange.at)),
                exchange.mti,
                exchange.what,
                exchange.pan.replace("*" * 12, "…"),
                exchange.amount,
                Text(
                    answer_text(exchange, time_too=False),
                    style=STYLES.get(exchange.response_code, "yellow"),
                ),
                f"{exchange.elapsed_ms:.1f}" if exchange.answered else "",
            )
        for _ in range(count - len(shown)):
            table.add_row()
        return table

    def _codes(self, count_max: int) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("answers")
        table.add_column("", justify="right")
        for code, count in self._tally.codes.most_common(count_max):
            style = STYLES.get(code, "yellow")
            table.add_row(
                Text(f"{code} {response_text(code)}", style=style), str(count)
            )
        return table

    def _accounts(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("account")
        for name in ("balance", "held", "available"):
            table.add_column(name, justify="right")
        for account, figures in self._tally.accounts.items():
            money = [_money(figures, n) for n in ("balance", "held", "available")]
            table.add_row(account, *money)
        return table


def make_view() -> View:
    console = Console()
    return LiveView(console) if console.is_terminal else PlainView()


def address_lines(addresses: Addresses) -> list[str]:
    return [
        f"the switch listens on  {addresses.switch}  ({addresses.wire})",
        f"accounts               {addresses.http}/api/accounts/DEMO00001",
        f"metrics                {addresses.http}/metrics",
        f"events                 {addresses.events}",
        f"cards to try with      {addresses.cards}",
    ]


def answer_text(exchange: Exchange, *, time_too: bool = True) -> str:
    if not exchange.answered:
        return "no answer"
    parts = [exchange.response_code, response_text(exchange.response_code)]
    if exchange.approval_code:
        parts.append(exchange.approval_code)
    if exchange.same_answer is not None:
        parts.append("(the same)" if exchange.same_answer else "(NOT THE SAME)")
    if time_too:
        parts.append(f"{exchange.elapsed_ms:.1f} ms")
    return " ".join(parts)


def _money(figures: Mapping[str, Any], name: str) -> str:
    minor = int(figures[name])
    sign = "-" if minor < 0 else ""
    text = f"{sign}{abs(minor) // 100:,}.{abs(minor) % 100:02d}"
    return f"{text} {figures['currency']}" if name == "balance" else text
