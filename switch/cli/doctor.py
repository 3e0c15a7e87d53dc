"""`switch doctor`."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json

if TYPE_CHECKING:
    from switch.config import Config
    from switch.doctor.findings import Finding

COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "doctor",
        run,
        summary="look at all that the switch needs around it, and say what is wrong",
        example="switch doctor --config node1.toml",
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="the configuration file that the switch is started with",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """0: nothing is an error; 1: something is; 2: so is the configuration itself."""
    import asyncio

    from switch.config import ConfigError, load
    from switch.doctor.findings import Finding

    try:
        config = load(arguments.config, os.environ).config
    except ConfigError as error:
        findings = []
        for problem in error.problems:
            setting, _, what = problem.partition(": ")
            findings.append(Finding(setting, "error", what))
        _tell(findings, arguments)
        return exits.USAGE
    findings = asyncio.run(_examine(config, arguments))
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if not arguments.json:
        print(f"{len(findings)} looks: {errors} errors, {warnings} warnings")
    return exits.NOT_SO if errors else exits.OK


async def _examine(config: "Config", arguments: argparse.Namespace) -> "list[Finding]":
    from switch.doctor.examination import examine

    findings = []
    async for finding in examine(config):
        findings.append(finding)
        if not arguments.json:
            _tell([finding], arguments)
    if arguments.json:
        _tell(findings, arguments)
    return findings


def _tell(findings: "list[Finding]", arguments: argparse.Namespace) -> None:
    import msgspec
    from rich.console import Console
    from rich.text import Text

    if arguments.json:
        so = all(finding.level != "error" for finding in findings)
        print_json({"ok": so, "findings": msgspec.to_builtins(findings)})
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in findings:
        level = Text(f"{finding.level:<8}", style=COLOURS[finding.level])
        console.print(level, f"{finding.check}:", finding.text)
