"""What fuzzing begins with: the frames of tests/vectors, and what was found before."""

import hashlib
from pathlib import Path

from tests.fuzz.targets import CODECS
from tests.style.sources import ROOT

VECTORS = ROOT / "tests/vectors"
# Inputs that a target once failed on, a file each: from then on they are tests.
FOUND = ROOT / "tests/fuzz/found"


def frames() -> list[tuple[int, bytes]]:
    """Each with the place of its codec among `CODECS`."""
    names = [codec.spec.name for codec in CODECS]
    read = []
    for name, frame_header_size in (
        ("mastercard-cis", 2),
        ("visa-base1", 4),
        ("visa-base1-reject", 4),
    ):
        place = names.index(name.removesuffix("-reject"))
        for line in (VECTORS / f"{name}.hex").read_text().split():
            read.append((place, bytes.fromhex(line)[frame_header_size:]))
    # The other specs have no frames of a network: the same fields as they write them.
    place, frame = read[0]
    fields = CODECS[place].decode(frame).to_dict()
    for other, codec in enumerate(CODECS):
        digit = codec.spec.version_digits[0]
        known = {key: fields[key] for key in fields if key in codec.spec.fields}
        fitting = {"mti": f"{digit}100"} | {
            key: known[key] for key in (2, 3, 4, 7, 11, 41, 55) if key in known
        }
        read.append((other, codec.encode(fitting)))
    return read


def seeds(target: str) -> list[bytes]:
    found = [path.read_bytes() for path in sorted(FOUND.glob(f"{target}-*"))]
    return [*made(target), *found]


def made(target: str) -> list[bytes]:
    match target:
        case "decode":
            return [bytes([place]) + frame for place, frame in frames()]
        case "inside":
            return insides()
        case "documents":
            return [b"\1\0" + b"0800\x82\x20" + bytes(6) + b"\4" + bytes(7)]
        case "frames":
            framed = (len(frame).to_bytes(2, "big") + frame for _, frame in frames())
            return [b"\0\0\7" + b"".join(framed)]
    return [b"\0\0\x0b\0\x06000017"]


def insides() -> list[bytes]:
    """The data of fields with something inside, by place of codec and field."""
    inputs = []
    for place, frame in frames():
        codec = CODECS[place]
        message = codec.decode(frame)
        numbers = sorted(
            key for key, field in codec.spec.fields.items() if field.inside
        )
        for index, number in enumerate(numbers):
            if number in message and codec.spec.field(number).encoding == "binary":
                data = bytes.fromhex(message[number])
                inputs.append(bytes([place, index, 0, 1, 0]) + data)
    return inputs


def written(target: str, directory: Path) -> None:
    """Writes the seeds as libFuzzer wants them: a file each."""
    directory.mkdir(parents=True, exist_ok=True)
    for seed in seeds(target):
        (directory / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
