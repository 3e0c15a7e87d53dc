"""`switch demo`: a bank, the daemon, a scheme, and a look at all of it."""

import argparse
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_command,
    count_in,
    load_codec,
    make_framing,
    number_above,
)

if TYPE_CHECKING:
    import aiohttp

    from switch.cli.demo_daemon import Daemon
    from switch.cli.demo_view import Addresses, Tally, View
    from switch.replay.bank import Bank
    from switch.replay.client import Client
    from switch.replay.scheme import Scheme

SPEC: Final = "iso87-ascii"
FRAMING: Final = "binary2"
PORT_WANTED: Final = 8583
HTTP_PORT_WANTED: Final = 8580
ACCOUNTS_SHOWN: Final = 5
ACCOUNTS_INTERVAL_S: Final = 1.0
TICK_S: Final = 0.25


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "demo",
        run,
        summary="show the switch at work: a demo bank, the daemon, a simulated scheme",
        example="switch demo --seconds 30",
    )
    parser.add_argument(
        "--seconds",
        type=number_above(0),
        metavar="S",
        help="end after so long (default: on Ctrl-C)",
    )
    parser.add_argument(
        "--rate",
        type=number_above(0),
        default=10.0,
        metavar="R",
        help="messages a second, on average (default %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=count_in(0, 2**62),
        default=1,
        metavar="N",
        help="which bank, and who buys what (default %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="keep the bank here, and go on with it next time (default: a temporary "
        "directory, removed at the end)",
    )


def run(arguments: argparse.Namespace) -> int:
    import tempfile

    from switch.replay.errors import TrafficError

    with tempfile.TemporaryDirectory(prefix="switch-demo-") as temporary:
        try:
            return _run_in(Path(temporary), arguments)
        except TrafficError as error:
            raise exits.CommandError(str(error), exits.INPUT_OUTPUT) from error


def _run_in(temporary: Path, arguments: argparse.Namespace) -> int:
    import asyncio
    import datetime

    from switch.cli.demo_daemon import Daemon, run_switch, verify
    from switch.cli.demo_view import Tally, make_view
    from switch.replay.bank import make_bank

    data: Path = arguments.data or temporary / "data"
    today = datetime.datetime.now(datetime.UTC).date()
    bank = make_bank(arguments.seed, today)
    files = bank.write(temporary)
    if not (data / "journal.db").exists():
        print(f"demo bank: {len(bank.accounts)} accounts, {len(bank.cards)} test cards")
        for what, file in zip(("accounts", "cards"), files, strict=True):
            run_switch(what, "import", str(file), "--data", str(data))
    log = temporary / "serve.log"
    daemon = Daemon(data, log, PORT_WANTED, HTTP_PORT_WANTED)
    tally, view = Tally(), make_view()
    sys.stdout.flush()
    sigterm = signal.getsignal(signal.SIGTERM)
    try:
        daemon.start()
        asyncio.run(_show(daemon, Play(bank, files[1], arguments), tally, view))
    finally:
        # the event loop took it, and gave back the default, which cleans up nothing
        signal.signal(signal.SIGTERM, sigterm)
        daemon.stop()
    return _conclude(tally, data, verify(data))


class Play(NamedTuple):
    """What is played, and how."""

    bank: "Bank"
    cards_file: Path
    arguments: argparse.Namespace


async def _show(daemon: "Daemon", play: Play, tally: "Tally", view: "View") -> None:
    import asyncio

    import aiohttp

    from switch.cli.demo_daemon import HTTP_TIMEOUT
    from switch.replay.client import Client

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    # SIGHUP: the terminal was closed, and the daemon has a session of its own.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    async with aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as session:
        await _until_first(daemon.wait_ready(session), stopping.wait())
        if stopping.is_set():
            return
        codec, framing = load_codec(SPEC), make_framing(FRAMING, False)
        async with Client("127.0.0.1", daemon.port, codec, framing) as client:
            view.open(_addresses(daemon, play.cards_file), tally)
            try:
                scheme = _scheme(client, play, tally, view)
                watching = _watch(daemon, session, tally, view)
                await _until_first(
                    scheme.play(),
                    watching,
                    stopping.wait(),
                    timeout_s=play.arguments.seconds,
                )
                daemon.check()
                if client.lost is None:
                    await scheme.sign_off()
            finally:
                view.close()
            if client.lost is not None:
                raise exits.CommandError(f"connection lost: {client.lost}", exits.FAULT)


async def _until_first(
    *work: Coroutine[Any, Any, object], timeout_s: float | None = None
) -> None:
    """Until one is done (if it failed, its failure) or time is up; ends the others."""
    import asyncio

    tasks = [asyncio.create_task(one) for one in work]
    done, _ = await asyncio.wait(
        tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _scheme(client: "Client", play: Play, tally: "Tally", view: "View") -> "Scheme":
    from switch.replay.scheme import Exchange, Scheme

    def take(exchange: Exchange) -> None:
        tally.add(exchange)
        view.show(exchange)

    return Scheme(
        client,
        play.bank,
        per_second=play.arguments.rate,
        seed=play.arguments.seed,
        on_exchange=take,
    )


async def _watch(
    daemon: "Daemon", session: "aiohttp.ClientSession", tally: "Tally", view: "View"
) -> None:
    """Keeps the view and the balances in it fresh, for as long as the daemon lives."""
    import asyncio

    accounts_at = 0.0
    while True:
        daemon.check()
        if time.monotonic() >= accounts_at:
            accounts_at = time.monotonic() + ACCOUNTS_INTERVAL_S
            for account in tally.touched(ACCOUNTS_SHOWN):
                figures = await daemon.account(session, account)
                if figures is not None:
                    tally.set_account(account, figures, ACCOUNTS_SHOWN)
        view.tick()
        await asyncio.sleep(TICK_S)


def _addresses(daemon: "Daemon", cards_file: Path) -> "Addresses":
    from switch.cli.demo_view import Addresses

    return Addresses(
        switch=f"127.0.0.1:{daemon.port}",
        wire=f"{SPEC}, {FRAMING}",
        http=daemon.url,
        events=str(daemon.data / "events"),
        cards=str(cards_file),
    )


def _conclude(tally: "Tally", data: Path, verdict: dict[str, Any]) -> int:
    from switch.replay.response import response_text

    codes = ", ".join(
        f"{code} {response_text(code)} {count}"
        for code, count in tally.codes.most_common()
    )
    kinds = ", ".join(f"{what} {count}" for what, count in tally.kinds.most_common())
    repeats = tally.repeats_same + tally.repeats_other
    event_count = sum(_line_count(file) for file in data.glob("events/*.jsonl"))
    ok = bool(verdict["ok"])
    print(f"sent: {kinds}")
    print(f"answers: {codes}")
    print(f"in all: {tally.summary()}")
    print(f"repeats that got the first answer again: {tally.repeats_same} of {repeats}")
    print(f"events published: {event_count}")
    print(
        f"journal verify: {'ok' if ok else 'NOT ok'}, {verdict['entries']} entries, "
        f"{verdict['accounts']} accounts"
    )
    for problem in verdict["problems"]:
        print(f"  {problem}")
    so = ok and tally.answered == tally.asked and not tally.repeats_other
    return exits.OK if so else exits.NOT_SO


def _line_count(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
