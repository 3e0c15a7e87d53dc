"""`switch publish`."""

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, count_in, print_json
from switch.cli.settings import add_data_settings, load_settings

if TYPE_CHECKING:
    from switch.config import Config
    from switch.publisher.moves import EngineReport, Engines, Forgotten

COMMIT_MAX = 2**62


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser(
        "publish", help="how far Kafka and its like are, and where they go on"
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "status",
        run_status,
        summary="say how far each engine is, beside a daemon or without one",
        example="switch publish status --config switch.toml",
    )
    add_data_settings(parser)
    add_json(parser)
    parser = add_command(
        actions,
        "rewind",
        run_rewind,
        summary="send again from an earlier commit on, with the same ids",
        example="switch publish rewind kafka --to-time 2026-11-24T18:00:00Z",
    )
    _add_target(parser, "the first that is sent again", is_required=True)
    parser = add_command(
        actions,
        "skip",
        run_skip,
        summary="never send what is before a later commit",
        example="switch publish skip kafka --data bank",
    )
    _add_target(
        parser, "the first that is not skipped (default: all is)", is_required=False
    )
    parser = add_command(
        actions,
        "forget",
        run_forget,
        summary="drop the position of an engine that is configured no longer",
        example="switch publish forget kafka --config switch.toml",
    )
    _add_engine(parser)
    add_data_settings(parser)
    add_json(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="ENGINE", help="kafka, for example")


def _add_target(
    parser: argparse.ArgumentParser, what: str, *, is_required: bool
) -> None:
    _add_engine(parser)
    where = parser.add_mutually_exclusive_group(required=is_required)
    where.add_argument(
        "--to-commit",
        type=count_in(1, COMMIT_MAX),
        metavar="N",
        help=f"a commit of the journal: {what}",
    )
    where.add_argument(
        "--to-id", metavar="SHARD-SEQUENCE", help="the same, by an event that it has"
    )
    where.add_argument(
        "--to-time",
        type=_moment,
        metavar="TIME",
        help="the first commit of that time or later; with a zone, as "
        "2026-11-24T18:00:00Z",
    )
    if is_required:
        where.add_argument(
            "--to-start", action="store_true", help="everything, from the first entry"
        )
    add_data_settings(parser)
    add_json(parser)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"expected a time with its zone, as 2026-11-24T18:00:00Z, got {text!r}"
        )
    return moment


def run_status(arguments: argparse.Namespace) -> int:
    from msgspec import to_builtins

    config = load_settings(arguments).config
    if config.cluster.name:
        from switch.cli.publish_cluster import run_status as run_status_of_cluster

        return run_status_of_cluster(arguments, config)
    engines = _open(config)
    reports = [engines.report(name) for name in engines.names]
    engines.close()
    if arguments.json:
        print_json(to_builtins(reports))
    for report in () if arguments.json else reports:
        print(_described(report))
    if not (reports or arguments.json):
        print("no engine is configured, and none was")
    return exits.OK


def _described(report: "EngineReport") -> str:
    if report.commit is None:
        words = [f"{report.engine}: {report.fault}"]
    else:
        words = [f"{report.engine}: commit {report.commit:,} of {report.head:,}"]
    words.append("a publisher runs" if report.running else "no publisher runs")
    if not report.configured:
        words.append("not configured")
    if report.refused:
        words.append(f"{report.refused:,} events set aside")
    if report.moving_to is not None:
        words.append(f"asked to go on behind commit {report.moving_to:,}")
    return "; ".join(words)


def run_rewind(arguments: argparse.Namespace) -> int:
    return _move(arguments, forward=False)


def run_skip(arguments: argparse.Namespace) -> int:
    return _move(arguments, forward=True)


def _move(arguments: argparse.Namespace, *, forward: bool) -> int:
    from msgspec import to_builtins

    from switch.cli.progress import progress

    config = load_settings(arguments).config
    if config.cluster.name:
        from switch.cli.publish_cluster import run_move

        return run_move(arguments, config, forward=forward)
    engines = _open(config)
    with progress("journal", 1.0) as advance:
        target = _target(arguments, engines)
        moved = engines.move(arguments.engine, target, advance, forward=forward)
    engines.close()
    if arguments.json:
        print_json(to_builtins(moved))
        return exits.OK
    before = "?" if moved.before is None else f"{moved.before:,}"
    said = (
        "goes on" if moved.done else "is asked to go on, and will before its next batch"
    )
    print(f"{moved.engine} was at commit {before}, {said} behind {moved.commit:,}")
    return exits.OK


def run_forget(arguments: argparse.Namespace) -> int:
    from msgspec import to_builtins

    config = load_settings(arguments).config
    if config.cluster.name:
        from switch.cli.publish_cluster import run_forget as run_forget_of_cluster

        return run_forget_of_cluster(arguments, config)
    engines = _open(config)
    forgotten = engines.forget(arguments.engine)
    engines.close()
    if arguments.json:
        print_json(to_builtins(forgotten))
    else:
        print(_said(forgotten))
    return exits.OK


def _said(forgotten: "Forgotten") -> str:
    entries = "?" if forgotten.entries is None else f"{forgotten.entries:,}"
    return (
        f"{forgotten.engine}: forgotten, with {entries} entries out; configured again, "
        "it begins with the first entry"
    )


def _target(arguments: argparse.Namespace, engines: "Engines") -> int:
    """The commit behind which it goes on."""
    if arguments.to_commit is not None:
        return int(arguments.to_commit) - 1
    if arguments.to_id is not None:
        return engines.commit_before(event_id=arguments.to_id)
    if arguments.to_time is not None:
        return engines.commit_before(moment=arguments.to_time)
    return 0 if getattr(arguments, "to_start", False) else engines.head


def _open(config: "Config") -> "Engines":
    from switch.publisher.engines import names_of
    from switch.publisher.moves import Engines

    return Engines(
        config.data_directory, names_of(config.publish.kafka, config.publish.nsq)
    )
