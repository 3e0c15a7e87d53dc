"""The native interface, through a module built against it as any other would be."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import iso8583
from tests.messages import content, specs_of_1987

ROOT = Path(__file__).resolve().parents[3]
SOURCE = Path(__file__).with_name("native") / "reader.pyx"
CODECS = [iso8583.Codec(iso8583.load_spec(name)) for name in specs_of_1987()]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=repr)

BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(
    script_args=["-q", "build_ext", "--inplace"],
    packages=[],
    ext_modules=cythonize(
        [Extension("reader", ["reader.pyx"])], include_path=sys.argv[1:], quiet=True
    ),
)
"""


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    """Built once for one state of the interface, and kept."""
    declared = sorted((ROOT / "ext/iso8583").glob("*.pxd"))
    digest = hashlib.sha256(sys.version.encode())
    for path in (SOURCE, *declared):
        digest.update(path.read_bytes())
    folder = ROOT / ".cache" / f"native-reader-{digest.hexdigest()[:16]}"
    if not any(folder.glob("reader.*.so")):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE, folder)
        subprocess.run(
            [sys.executable, "-c", BUILD, ROOT / "ext"], cwd=folder, check=True
        )
    (library,) = folder.glob("reader.*.so")
    found = importlib.util.spec_from_file_location("reader", library)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


FIELDS: dict[int | str, str] = {
    "mti": "0100",
    2: "4000001234567",
    4: "000000001500",
    23: "051",
    32: "",
    41: "TERM0001",
    52: "0123456789ABCDEF",
}


@each_codec
def test_decode_buffer_copies(reader, codec):
    data = bytearray(codec.encode(FIELDS))
    message = reader.decode(codec, data)
    data[:] = bytes(len(data))
    assert content(message) == FIELDS


@each_codec
@pytest.mark.parametrize("size", [0, 1, 4, 100, 70_000])
def test_decode_buffer_refuses(reader, codec, size):
    with pytest.raises(iso8583.DecodeError):
        reader.decode(codec, bytearray(b"\xff" * size))


@each_codec
def test_has_and_mti(reader, codec):
    message = codec.message(FIELDS)
    assert reader.mti_number(message) == 0x0100
    for field in (-1, 0, 1, 3, 65, 128, 129, 1 << 20):
        assert not reader.has(message, field)
        assert reader.text(message, field, 100) == -1
        assert reader.number(message, field) == -1
        assert reader.span(message, field) is None
    for number in FIELDS.keys() - {"mti"}:
        assert reader.has(message, number)


@each_codec
def test_text_is_ascii_whatever_the_encoding(reader, codec):
    message = codec.message(FIELDS)
    for field in FIELDS.keys() - {"mti"}:
        expected = FIELDS[field].encode()
        assert reader.text(message, field, 100) == expected
        assert reader.text(message, field, len(expected)) == expected
        for capacity in range(len(expected)):
            assert reader.text(message, field, capacity) == -2


@each_codec
def test_numbers(reader, codec):
    message = codec.message(FIELDS)
    assert reader.number(message, 2) == 4_000_001_234_567
    assert reader.number(message, 4) == 1500
    assert reader.number(message, 23) == 51
    assert reader.number(message, 32) == -2
    assert reader.number(message, 41) == -2
    message[2] = "9" * 18
    assert reader.number(message, 2) == 10**18 - 1
    message[2] = "1" * 19
    assert reader.number(message, 2) == -2


@each_codec
def test_a_span_is_the_field_as_it_came(reader, codec):
    message = codec.message({"mti": "0100", 41: "TERM0001", 2: "4000001234567"})
    assert bytes(message).endswith(reader.span(message, 2) + reader.span(message, 41))
    only = codec.message({"mti": "0100", 2: "4000001234567"})
    assert bytes(only).endswith(reader.span(message, 2))


def test_text_that_is_not_ascii(reader):
    codec = iso8583.Codec(iso8583.load_spec("mastercard-cis"))
    message = codec.message({"mti": "0100", 43: "CAFÉ".ljust(40), 41: "Ü" * 8})
    assert reader.text(message, 43, 100) == -2
    assert reader.number(message, 41) == -2


def test_packed_digits_that_are_none(reader):
    codec = iso8583.Codec(iso8583.load_spec("iso87-binary"))
    # An A among the digits; another pad nibble.
    message = codec.decode(bytes.fromhex("0100 2000040000000000 12345A 1051"))
    assert reader.text(message, 3, 10) == b"12345A"
    assert reader.number(message, 3) == -2
    assert reader.text(message, 22, 10) == -2
    assert reader.number(message, 22) == -2


@each_codec
def test_a_reply_fits_or_fails(reader, codec):
    template = iso8583.ReplyTemplate(codec, "0110", (2, 4, 23, 41))
    request = codec.message(FIELDS)
    for approval_code in (None, "A1B2C3"):
        built = template.build(request, "00", approval_code)
        code = approval_code.encode() if approval_code else None
        size = len(built)
        for capacity in (size, size + 1, 1024):
            assert reader.reply(template, request, capacity, b"00", code) == built
        for capacity in range(size):
            with pytest.raises(iso8583.EncodeError, match="a reply of at most"):
                reader.reply(template, request, capacity, b"00", code)
