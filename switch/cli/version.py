"""`switch version`."""

import argparse

import switch
from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "version",
        run,
        summary="say which version this is, and what it runs on",
        example="switch version --json",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        print(f"switch {switch.__version__}")
        return exits.OK
    import platform
    from importlib.metadata import version

    import apsw

    from switch.journal.sqlite import FORMAT_VERSION

    print_json(
        {
            "version": switch.__version__,
            "journal_format": FORMAT_VERSION,
            "python": platform.python_version(),
            "uvloop": version("uvloop"),
            "sqlite": apsw.sqlite_lib_version(),
            "apsw": apsw.apsw_version(),
            "native": native_modules(),
        }
    )
    return exits.OK


def native_modules() -> dict[str, str]:
    """The compiled modules that are installed: import name and file."""
    from importlib.machinery import EXTENSION_SUFFIXES
    from pathlib import Path

    import iso8583

    modules: dict[str, str] = {}
    for package in (iso8583, switch):
        root = Path(package.__path__[0])
        for file in sorted(root.rglob("_*")):
            if file.name.endswith(EXTENSION_SUFFIXES[0]):
                parts = file.relative_to(root.parent).with_name(
                    file.name.removesuffix(EXTENSION_SUFFIXES[0])
                )
                modules[".".join(parts.parts)] = str(file)
    return modules
