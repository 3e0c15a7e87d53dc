"""How much memory the largest messages take: in a process of its own, for the kernel's
high-water mark is of all that a process does.

Prints a line of JSON for each message: what it is, and by how many KiB the mark rose
while it was decoded, checked, read whole and described.
"""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import iso8583
from iso8583.inside import ELEMENTS_MAX, BerTlv
from tests.unit.iso8583.inside_specs import DATA_AT, codec_of

STATUS = Path("/proc/self/status")
FRAME_SIZE = 65535
# What shows that the mark moves.
METER, METER_BYTES = "the meter itself", 8 << 20
# The prefix of field 60 has two digits more here than `DATA_AT` is for.
SIZE = FRAME_SIZE - DATA_AT - 2


def messages() -> Iterator[tuple[str, iso8583.Codec, bytes]]:
    chip = codec_of(BerTlv(tags="emv"), length=SIZE, prefix_digits=5)
    for name, data in {
        "elements": b"\x80\x00" * (ELEMENTS_MAX - 1) + long(SIZE - 2 * ELEMENTS_MAX),
        "too many elements": b"\x80\x00" * (SIZE // 2),
        "nested": nested(b"\x80\x00" * 1000 + long(SIZE // 2), 7),
        "nested too deep": nested(b"", SIZE // 8),
    }.items():
        head = b"0100" + bytes.fromhex("0020000000000010") + b"000017"
        yield name, chip, head + b"%05d" % len(data) + data
    for name in iso8583.spec_names():
        codec = iso8583.Codec(iso8583.load_spec(name))
        fields = {
            number: "1" * field.length if field.content == "n" else None
            for number, field in codec.spec.fields.items()
        }
        known = {k: v for k, v in fields.items() if v is not None and k > 1}
        with suppress(iso8583.EncodeError):
            frame = codec.encode({"mti": mti_of(codec), **known})
            yield f"{name}, all its numbers", codec, frame
            draw = random.Random(1)
            filled = frame + draw.randbytes(FRAME_SIZE - len(frame))
            yield f"{name}, and random bytes", codec, filled


def mti_of(codec: iso8583.Codec) -> str:
    return f"{min(codec.spec.version_digits)}100"


def long(size: int) -> bytes:
    size -= 4
    return b"\x81\x82" + size.to_bytes(2, "big") + bytes(size)


def nested(data: bytes, depth: int) -> bytes:
    for _ in range(depth):
        data = b"\xe1\x83" + len(data).to_bytes(3, "big") + data
        if len(data) > SIZE - 5:
            break
    return data


def read(codec: iso8583.Codec, frame: bytes) -> None:
    with suppress(iso8583.DecodeError):
        message = codec.decode(frame, partial=True)
        with suppress(iso8583.Error):
            message.validate()
        for inside in (False, True):
            with suppress(iso8583.Error):
                message.to_dict(inside=inside)
        with suppress(iso8583.Error):
            iso8583.describe(message)


def growth_kib(work: Callable[[], object]) -> int:
    Path("/proc/self/clear_refs").write_text("5")  # sets the mark to what is there now
    before = high_water_kib()
    work()
    return high_water_kib() - before


def high_water_kib() -> int:
    return next(
        int(line.split()[1])
        for line in STATUS.read_text().splitlines()
        if line.startswith("VmHWM")
    )


def main() -> None:
    # What is made once: tables, caches, the interpreter's own pools.
    for _, codec, frame in messages():
        read(codec, frame[:300])
    print(json.dumps([METER, growth_kib(lambda: b"\1" * METER_BYTES)]))
    for name, codec, frame in messages():
        print(json.dumps([name, growth_kib(partial(read, codec, frame))]))


if __name__ == "__main__":
    main()
