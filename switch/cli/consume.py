"""`switch consume`: what a consumer of our topics does, for people and for pipes."""

import argparse
import sys
from pathlib import Path
from typing import Final

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, address
from switch.cli.settings import add_data_settings, load_settings

FROM: Final = ("beginning", "end")


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser("consume", help="print what was published")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "kafka",
        run_kafka,
        summary="print the events of the topics in Kafka, a line of JSON each",
        example="switch consume kafka --topic postings --follow --config switch.toml",
    )
    parser.add_argument(
        "--topic",
        action="append",
        metavar="TOPIC",
        help="authorisations, postings or card-events, without the prefix; may be "
        "given more than once (default: all)",
    )
    parser.add_argument(
        "--from",
        dest="begin",
        choices=FROM,
        default=FROM[0],
        help="where to begin, without a position (default %(default)s)",
    )
    parser.add_argument(
        "--position",
        type=Path,
        metavar="FILE",
        help="where to go on, and to keep how far it was: it prints each event once, "
        "but for the last second before it was killed",
    )
    parser.add_argument(
        "--follow", action="store_true", help="wait for more at the end; else stop"
    )
    parser.add_argument(
        "--repeats",
        action="store_true",
        help="print what was sent again too; it has an id that was there",
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="stop when so many are printed"
    )
    parser.add_argument(
        "--metrics",
        type=address,
        metavar="HOST:PORT",
        help="where Prometheus may ask how many and how far behind",
    )
    add_data_settings(parser)


def run_kafka(arguments: argparse.Namespace) -> int:
    import uvloop

    from switch.cli.consume_kafka import Wanted, consume, until_terminated

    config = load_settings(arguments).config
    settings = config.publish.kafka
    if not settings.bootstrap:
        raise exits.CommandError(
            "expected the setting publish.kafka.bootstrap, got none; for example "
            "--set publish.kafka.bootstrap=127.0.0.1:9092"
        )
    wanted = Wanted(
        topics=tuple(arguments.topic or ()),
        begin=arguments.begin,
        position=arguments.position,
        follow=arguments.follow,
        repeats=arguments.repeats,
        count=arguments.count,
        metrics=arguments.metrics,
    )
    uvloop.run(until_terminated(consume(settings, wanted, sys.stdout)))
    return exits.OK
