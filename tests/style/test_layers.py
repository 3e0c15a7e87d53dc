"""The import rule: iso8583 <- ledger <- ports <- shard <- flow <- link <- app. A module
imports from its own package and from packages left of it; adapters import ports only.
Imports inside functions count, and so do cimports."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.style.sources import ROOT, Finding, files

PORTS = {"journal", "publish", "keys", "ownership"}

_BELOW_SHARD = {"iso8583", "ledger", *PORTS}
_BELOW_APP = {
    *(*_BELOW_SHARD, "shard", "flow", "link"),
    *(
        "observe",
        "projection",
        "companion",
        "follower",
        "publisher",
        "node_publisher",
        "node_follower",
        "imports",
        "audit",
        "backup",
        "embedded",
        "config",
        "clock",
        "check",
        "reloading",
        "admin",
        "rows",
        "openings",
        "peer",
        "cluster",
        "cluster_store",
        "cluster_pieces",
    ),
}
# Everything a package of switch/ may import of this project. A package that is not
# listed is a package whose place nobody has thought about yet.
ALLOWED: dict[str, set[str]] = {
    "ledger": {"iso8583"},
    "files": set(),
    "backoff": set(),
    # A client of its own, of use to anybody.
    "nsq": {"observe", "backoff"},
    **{port: {"iso8583", "ledger", "files", *PORTS} for port in PORTS},
    "publish": {"iso8583", "ledger", "files", "nsq", *PORTS},
    # A session of a cluster goes on by itself, and tells what befalls it.
    "ownership": {"observe", "backoff", *PORTS},
    "observe": set(),
    "clock": {"observe"},
    "shard": {*_BELOW_SHARD, "observe"},
    "flow": {*_BELOW_SHARD, "observe", "shard"},
    "link": {*_BELOW_SHARD, "observe", "backoff", "shard", "flow"},
    # Between nodes, and what a node is. They stand on the links, and beside `app`.
    "peer": {*_BELOW_SHARD, "observe", "shard", "flow", "link"},
    "cluster": {*_BELOW_SHARD, "observe", "shard", "flow", "link", "peer"},
    "replay": {"iso8583", "link"},
    # Beside the switch: it sees NSQ alone.
    "notify": {"nsq", "observe", "backoff", "files"},
    # Behind the journal: what reads the released entries. It sees no shard or link.
    "projection": {*_BELOW_SHARD, "observe"},
    "companion": {*_BELOW_SHARD, "observe", "backoff"},
    "follower": {*_BELOW_SHARD, "observe", "backoff", "projection", "companion"},
    "publisher": {*_BELOW_SHARD, "observe", "backoff", "companion"},
    "node_publisher": {
        *(*_BELOW_SHARD, "observe", "backoff", "companion", "publisher"),
        *("cluster", "cluster_store", "config"),
    },
    "node_follower": {
        *(*_BELOW_SHARD, "observe", "backoff", "companion", "projection"),
        *("cluster", "cluster_store", "config"),
    },
    # What opens a data directory, and what works on one while no daemon does.
    "embedded": {*_BELOW_SHARD, "shard", "observe", "config"},
    "rows": {"iso8583", "ledger", "keys"},
    "openings": {*_BELOW_SHARD, "shard", "rows"},
    "imports": {*_BELOW_SHARD, "shard", "config", "embedded", "rows", "openings"},
    # What operators do: beside the links, not through them.
    "admin": {*_BELOW_SHARD, "shard", "observe", "rows", "openings", "files"},
    "audit": {*_BELOW_SHARD, "shard", "observe"},
    "backup": {*_BELOW_SHARD, "config", "files"},
    "config": {"iso8583", "ledger", "link", "publish", "cluster"},
    "check": {"iso8583", "ledger", "keys", "link", "config", "cluster", "peer"},
    "reloading": {"link", "observe", "config", "check"},
    "app": _BELOW_APP,
    # The same for a node of a cluster, and what works on one.
    "cluster_store": {*_BELOW_SHARD, "cluster", "config"},
    "cluster_pieces": {"admin", "peer"},
    "clustered": {*_BELOW_APP, "app"},
    "cluster_audit": {*_BELOW_SHARD, "audit", "cluster", "cluster_store", "config"},
    "cluster_imports": {*_BELOW_APP, "clustered"},
    # Looks at what is around the process, and asks each server as the switch does.
    "doctor": {
        *_BELOW_SHARD,
        *("observe", "link", "nsq", "peer", "cluster"),
        *("cluster_store", "config", "check"),
    },
    "cli": {
        *(*_BELOW_APP, "app", "clustered", "cluster_audit", "cluster_imports"),
        *("replay", "files", "nsq", "notify", "doctor"),
    },
    "__main__": {"cli"},
}

# The ledger computes; whoever calls it waits, looks at clocks and draws numbers.
IMPURE = {
    *("aiohttp", "apsw", "asyncio", "datetime", "io", "logging", "multiprocessing"),
    *("os", "pathlib", "posix", "random", "secrets", "socket", "sqlite3"),
    *("subprocess", "threading", "time", "uuid", "uvloop"),
    *("libc.stdio", "libc.time"),
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Each imported module by its full name, `from x import y` as x.y: y may be one."""
    if path.suffix == ".py" or path.suffix == ".pyi":
        yield from _python_imports(path)
    else:
        yield from _cython_imports(path)


def _python_imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}"


_CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<package>[\w.]+)\s+c?import\s+\(?\s*(?P<name>\w+)?"
    r"|c?import\s+(?P<module>[\w.]+)"
    r"|cdef\s+extern\s+from\s+<(?P<header>[\w./]+)>)"
)


def _cython_imports(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = _CYTHON_IMPORT.match(line)
        if match is None:
            continue
        if match["package"] is not None:
            yield number, f"{match['package']}.{match['name'] or ''}".rstrip(".")
        elif match["module"] is not None:
            yield number, match["module"]


def module_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    parts = relative.parts[1:] if relative.parts[0] == "ext" else relative.parts
    return ".".join(parts).removesuffix(path.suffix).removesuffix(".__init__")


def place(module: str) -> str:
    """The package whose row of the table rules a module: iso8583, or the name below
    switch (a folder or a file)."""
    parts = module.split(".")
    if parts[0] != "switch":
        return parts[0]
    return parts[1] if len(parts) > 1 else "switch"


def _sources(*under: str) -> list[Path]:
    return files(".py", ".pyi", ".pyx", ".pxd", under=under)


def _own_imports(path: Path) -> Iterator[tuple[int, str]]:
    for number, module in imports(path):
        if module.split(".")[0] in ("switch", "iso8583"):
            yield number, module


def _report(findings: list[Finding]) -> None:
    if findings:
        pytest.fail("\n".join(map(str, findings)), pytrace=False)


def test_every_package_has_its_place():
    places = {place(module_of(path)) for path in _sources("switch", "ext")}
    assert places - {"switch", "iso8583"} <= set(ALLOWED)


def test_the_codec_stands_alone():
    _report(
        [
            Finding(path, number, f"{module} in iso8583 is banned", "the codec alone")
            for path in _sources("iso8583", "ext")
            if place(module_of(path)) == "iso8583"
            for number, module in _own_imports(path)
            if place(module) != "iso8583"
        ]
    )


def test_modules_import_from_their_left():
    findings = []
    for path in _sources("switch", "ext"):
        own = place(module_of(path))
        if own in ("switch", "iso8583"):
            continue
        for number, module in _own_imports(path):
            allowed = ALLOWED.get(own, set())
            if place(module) not in {own, "switch", *allowed}:
                use = ", ".join(sorted(allowed)) or "nothing of the switch"
                what = f"{module} in {own} is banned"
                findings.append(Finding(path, number, what, use))
    _report(findings)


def test_adapters_import_ports_only():
    findings = []
    for path in _sources("switch"):
        own = place(module_of(path))
        if own not in PORTS:
            continue
        for number, module in _own_imports(path):
            other = place(module)
            parts = module.split(".")
            if other in PORTS - {own} and parts[2:3] not in (["port"], ["errors"]):
                what = f"an adapter ({module}) in {own} is banned"
                findings.append(Finding(path, number, what, f"switch.{other}.port"))
    _report(findings)


def test_the_ledger_is_pure():
    findings = []
    for path in _sources("switch", "ext"):
        if place(module_of(path)) != "ledger":
            continue
        for number, module in imports(path):
            parts = module.split(".")
            if parts[0] in IMPURE or ".".join(parts[:2]) in IMPURE:
                what = f"{module} in the ledger is banned"
                findings.append(Finding(path, number, what, "an argument"))
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.match(r"\s*(async|await|print\(|open\()\b", line):
                what = f"{line.split()[0]} in the ledger is banned"
                findings.append(Finding(path, number, what, "an argument"))
    _report(findings)


def test_third_party_imports_of_the_codec():
    """Other services embed it: it costs them msgspec, and XML and YAML only
    who loads such a file."""
    optional = {("jpos", "defusedxml"), ("formats", "yaml")}
    allowed = {*sys.stdlib_module_names, "iso8583", "msgspec", "cpython", "libc"}
    _report(
        [
            Finding(path, number, f"{module} in iso8583 is banned", "the library")
            for path in files(".py", ".pyx", ".pxd", under=("iso8583", "ext"))
            if place(module_of(path)) == "iso8583"
            for number, module in imports(path)
            if (path.stem, module.partition(".")[0]) not in optional
            if module.split(".")[0] not in allowed | {"cython"}
        ]
    )
