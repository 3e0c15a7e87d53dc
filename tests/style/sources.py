"""The project's own files, for the rules that read them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

# Made by tools, or kept for a machine.
_SKIPPED = {"build", "dist", "found", "results", "__pycache__"}
_TEXT_SUFFIXES = {
    *(".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".sh", ".md", ".toml", ".in"),
    *(".json", ".csv", ".hex", ".txt", ""),
}


class Finding(NamedTuple):
    path: Path
    line: int
    what: str
    use: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT)
        return f"{path}:{self.line}: error: {self.what}, use {self.use}"


class Function(NamedTuple):
    name: str
    first_line: int
    last_line: int


def all_files() -> list[Path]:
    return sorted(_walk(ROOT))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if not hidden and path.name not in _SKIPPED and path.suffix != ".egg-info":
                yield from _walk(path)
        elif path.name == ".git":
            pass  # a worktree's: a file, and git's own
        elif path.suffix in _TEXT_SUFFIXES and not _is_generated(path):
            yield path


def _is_generated(path: Path) -> bool:
    if path.stem.endswith("_pb2"):
        return True
    return path.suffix == ".c" and path.with_suffix(".pyx").exists()


def files(*suffixes: str, under: tuple[str, ...] = ()) -> list[Path]:
    return [
        path
        for path in all_files()
        if path.suffix in suffixes
        and (not under or path.relative_to(ROOT).parts[0] in under)
    ]


def native_modules() -> list[str]:
    """The modules that ext/ has sources of."""
    return [
        ".".join(path.relative_to(ROOT / "ext").with_suffix("").parts)
        for path in files(".pyx", under=("ext",))
    ]


def python_functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, node.lineno, node.end_lineno or node.lineno)


_CYTHON_FUNCTION = re.compile(
    r"^(?P<indent>\s*)(?:async\s+)?(?:def|cdef|cpdef)\s(?!class\s)"
    r"[^=]*?(?P<name>\w+)\s*\("
)


def cython_functions(path: Path) -> Iterator[Function]:
    """Cython has no parser in the standard library: a function ends where the
    indentation falls back to that of its first line."""
    lines = path.read_text().splitlines()
    for index, line in enumerate(lines):
        match = _CYTHON_FUNCTION.match(line)
        if match is None:
            continue
        last = _end_of_block(lines, index, len(match["indent"]))
        if last > index:
            yield Function(match["name"], index + 1, last + 1)


def _end_of_block(lines: list[str], first: int, indent: int) -> int:
    last = first
    in_signature = True
    for index in range(first, len(lines)):
        text = lines[index].split("#")[0].rstrip()
        if in_signature:
            last = index
            in_signature = not text.endswith(":")
        elif text and len(text) - len(text.lstrip()) <= indent:
            break
        elif text:
            last = index
    return last
