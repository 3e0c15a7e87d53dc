"""`switch notify`."""

import argparse
import signal
from pathlib import Path

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_command,
    address,
    count_in,
    number_above,
)
from switch.cli.settings import add_data_settings, load_settings

CHANNEL = "webhook"
SECRET_BYTES_MIN = 16
# More than that an nsqd does not let wait.
RETRY_SECONDS_MAX = 3600.0


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "notify",
        run,
        summary="post the pushes in NSQ to a webhook, signed, until each is taken",
        example="switch notify --to https://app.bank.example/pushes "
        "--secret-file secret \\\n"
        "      --lookupd 10.0.0.11:4161 --dead-letters dead.jsonl "
        "--metrics 127.0.0.1:9108",
    )
    parser.add_argument(
        "--to", required=True, type=_url, metavar="URL", help="the webhook"
    )
    parser.add_argument(
        "--secret-file",
        required=True,
        type=Path,
        metavar="FILE",
        help=f"what requests are signed by, at least {SECRET_BYTES_MIN} bytes; a line "
        "feed at the end is not part of it",
    )
    parser.add_argument(
        "--dead-letters",
        type=Path,
        default=Path("dead-letters.jsonl"),
        metavar="FILE",
        help="where pushes go that are not taken (default %(default)s)",
    )
    parser.add_argument(
        "--remember",
        type=Path,
        metavar="FILE",
        help="which pushes were dealt with, so that a repeat is known after a restart "
        "too; of this process alone",
    )
    _add_source(parser)
    _add_bounds(parser)
    parser.add_argument(
        "--metrics",
        type=address,
        metavar="HOST:PORT",
        help="where Prometheus may ask how it goes",
    )
    add_data_settings(parser)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nsqd",
        type=address,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="an nsqd; may be given more than once (default: those of the "
        "configuration, publish.nsq.nsqd, without --lookupd)",
    )
    parser.add_argument(
        "--lookupd",
        type=address,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="an nsqlookupd, by its HTTP port, that knows the nsqd; may be given more "
        "than once",
    )
    parser.add_argument(
        "--topic",
        metavar="TOPIC",
        help="default: publish.nsq.topic, push-notifications",
    )
    parser.add_argument(
        "--channel",
        default=CHANNEL,
        metavar="CHANNEL",
        help="those with one channel share the pushes (default %(default)s)",
    )


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attempts",
        type=count_in(1, 60_000),
        default=12,
        metavar="N",
        help="after so many a push is put aside (default %(default)d)",
    )
    for name, default, what in (
        ("timeout", 5.0, "how long the webhook may take to answer"),
        ("retry-min", 1.0, "before the second attempt; twice as long each time"),
        ("retry-max", 600.0, "the longest between two attempts, up to an hour"),
    ):
        parser.add_argument(
            f"--{name}",
            type=number_above(0),
            default=default,
            metavar="S",
            help=f"{what} (default %(default)g)",
        )
    parser.add_argument(
        "--in-flight",
        type=count_in(1, 2500),
        default=64,
        metavar="N",
        help="requests at once (default %(default)d)",
    )


def run(arguments: argparse.Namespace) -> int:
    import uvloop
    from prometheus_client import start_http_server

    from switch.notify.metrics import Metrics
    from switch.notify.remembered import RememberedError
    from switch.notify.run import Wanted, notify
    from switch.nsq.consumer import Subscription
    from switch.observe import log

    config = load_settings(arguments).config
    log.set_up(config.log.level, config.log.format)
    settings = config.publish.nsq
    nsqd = tuple(map(str, arguments.nsqd))
    lookupd = tuple(map(str, arguments.lookupd))
    if not nsqd and not lookupd:
        nsqd = settings.nsqd
    if not nsqd and not lookupd:
        raise exits.CommandError(
            "expected --nsqd, --lookupd or the setting publish.nsq.nsqd, got none"
        )
    wanted = Wanted(
        subscription=Subscription(
            topic=_name("topic", arguments.topic or settings.topic),
            channel=_name("channel", arguments.channel),
            nsqd=nsqd,
            lookupd=lookupd,
            in_flight=arguments.in_flight,
        ),
        url=arguments.to,
        secret=_secret(arguments.secret_file),
        dead_letters=arguments.dead_letters,
        remembered=arguments.remember,
        attempts_max=arguments.attempts,
        timeout_seconds=arguments.timeout,
        retry_seconds_min=min(arguments.retry_min, arguments.retry_max),
        retry_seconds_max=min(arguments.retry_max, RETRY_SECONDS_MAX),
    )
    metrics = Metrics()
    if arguments.metrics is not None:
        where = arguments.metrics
        start_http_server(where.port, where.host, metrics.registry)
    try:
        told = uvloop.run(notify(wanted, metrics))
    except RememberedError as error:
        raise exits.CommandError(str(error)) from error
    return exits.INTERRUPTED if told == signal.SIGINT else exits.TERMINATED


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"expected http(s)://HOST/…, got {text!r}")
    return text


def _name(what: str, text: str) -> str:
    import re

    from switch.nsq.protocol import NAME_PATTERN

    if re.fullmatch(NAME_PATTERN, text) is None:
        raise exits.CommandError(
            f"--{what}: expected up to 64 letters, digits, '.', '_' and '-', got "
            f"{text!r}"
        )
    return text


def _secret(path: Path) -> bytes:
    secret = path.read_bytes().rstrip(b"\r\n")
    if len(secret) < SECRET_BYTES_MIN:
        raise exits.CommandError(
            f"{path}: expected a secret of at least {SECRET_BYTES_MIN} bytes, got "
            f"{len(secret)}"
        )
    return secret
