"""Who is timed beside our codec, and how each is made ready and asked.

Each is a process of its own that waits for the next request (serving.py): whoever is
not asked does nothing. What cannot be had on this machine is left out, and why is said.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

import iso8583
from bench.codec import message
from bench.load import servers
from bench.load.servers import ROOT, BenchError

HERE = ROOT / "bench/codec"
OURS = "ours"
WALK = "C walk"
# By the extra of pyproject.toml that has them.
PYTHON_RIVALS = {"pyiso8583": "bench", "iso8583sim": "bench-codec"}
JAVA_RIVALS = ("jPOS", "j8583")
RIVALS = (*PYTHON_RIVALS, *JAVA_RIVALS)
# Until they are done as they are from then on.
FIRST_COUNT = 10
CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")


class AbsentError(Exception):
    """Why somebody cannot be timed here."""


def codec() -> iso8583.Codec:
    return iso8583.Codec(iso8583.load_spec(message.SPEC))


def encoded() -> bytes:
    return codec().encode(message.request())


def write_message(path: Path, data: bytes) -> None:
    """For those that are not in Python: the message, and of its spec what it needs."""
    spec = codec().spec
    lines: list[tuple[str, ...]] = [
        ("data", data.hex()),
        ("mti", message.MTI),
        ("read", " ".join(map(str, message.READ))),
        ("changed", message.CHANGED),
    ]
    for number, value in message.FIELDS.items():
        field = spec.field(number)
        layout = (field.content, str(field.length), str(field.prefix_digits))
        lines.append(("field", str(number), *layout, value))
    path.write_text("".join("\t".join(line) + "\n" for line in lines))


# -- to be had -----------------------------------------------------------------------


def build_walk(folder: Path) -> Path:
    binary = folder / "walk"
    options = ["-O3", "-Wall", "-Wextra", "-Werror"]
    servers.run("gcc", *options, "-o", str(binary), str(HERE / "walk.c"))
    return binary


def fetch_jars() -> list[Path]:
    """Those of jars.sha256; fetched the first time, checked every time."""
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            raise AbsentError(f"no {program} on PATH")
    sums = (HERE / "java/jars.sha256").read_text()
    wanted = dict(line.split("  ")[::-1] for line in sums.splitlines())
    version = hashlib.sha256(sums.encode()).hexdigest()[:16]
    folder = ROOT / f".cache/bench-java-{version}"
    if not folder.exists():
        _fetch(folder)
    for name, digest in wanted.items():
        check(folder / name, digest)
    return [folder / name for name in wanted]


def _fetch(folder: Path) -> None:
    """Whole or not at all, whoever else is at it."""
    folder.parent.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent))
    command = ["mvn", "--quiet", "--batch-mode", "--file", str(HERE / "java/pom.xml")]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(fresh)
        reason = (done.stdout + done.stderr).strip().partition("\n")[0]
        raise AbsentError(f"mvn could not fetch the jars: {reason}")
    try:
        fresh.rename(folder)
    except OSError:
        shutil.rmtree(fresh)


def check(jar: Path, wanted: str) -> None:
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    if digest != wanted:
        raise BenchError(f"{jar}: SHA-256 must be {wanted}, got {digest}")


def commands(
    folder: Path, rivals: list[str], warm_up: float
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How each is started, and why the others are not."""
    data, path = encoded(), folder / "message"
    write_message(path, data)
    found = {
        OURS: [sys.executable, "-m", "bench.codec.ours"],
        WALK: [str(build_walk(folder)), str(path)],
    }
    absent = {}
    for name, extra in PYTHON_RIVALS.items():
        if name in rivals:
            python = servers.build_environment(extra)
            found[name] = [str(python), str(HERE / f"with_{name}.py"), data.hex()]
    if java_rivals := [name for name in rivals if name in JAVA_RIVALS]:
        try:
            jars = ":".join(map(str, fetch_jars()))
            program = ["java", "-cp", jars, str(HERE / "java/Contender.java")]
            for name in java_rivals:
                found[name] = [*program, name, str(path), str(warm_up)]
        except AbsentError as error:
            absent = dict.fromkeys(java_rivals, str(error))
    return found, absent


# -- to be asked ---------------------------------------------------------------------


class Contender(msgspec.Struct):
    """One that is ready."""

    process: subprocess.Popen[str]
    log: Path
    version: str = ""

    def nanoseconds(self, operation: str, seconds: float) -> float:
        return float(self.ask(f"time\t{operation}\t{seconds}"))

    def ask(self, request: str) -> str:
        assert self.process.stdin is not None
        # One that has ended is told by its answer.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"a contender ended: {self.log.read_text()[-4000:]}")
        return line.rstrip("\n")


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[Contender]:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if "bench.codec.ours" not in command:
        # What is on it for us has a package of the name of a rival's.
        environment.pop("PYTHONPATH", None)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        contender = Contender(process, log)
        contender.version = contender.answer().removeprefix("ready").strip()
        yield contender
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """It ends by itself when nothing more can be asked: its end is counted, too."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(servers.STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def instructions(
    command: list[str], operations: list[str], count: int, folder: Path
) -> dict[str, float]:
    """User-mode instructions of each operation: what `count` more of them add to a
    process that has done each of them FIRST_COUNT times."""
    first = _collected(command, dict.fromkeys(operations, FIRST_COUNT), folder)
    result = {}
    for operation in operations:
        counts = dict.fromkeys(operations, FIRST_COUNT)
        counts[operation] += count
        result[operation] = (_collected(command, counts, folder) - first) / count
    return result


def _collected(command: list[str], counts: dict[str, int], folder: Path) -> int:
    log = folder / "callgrind.log"
    with running([*CALLGRIND, *command], log) as contender:
        for operation, count in counts.items():
            contender.ask(f"count\t{operation}\t{count}")
    found = re.search(r"Collected : (\d+)", log.read_text())
    if found is None:
        raise BenchError(f"callgrind counted nothing: {log.read_text()[-4000:]}")
    return int(found[1])
