import os
import subprocess
import sys
from pathlib import Path

import pytest

from switch.journal.released import Released, create, lower_bound


def test_it_advances_and_is_kept(tmp_path):
    path = tmp_path / "released"
    assert lower_bound(path) == 0
    released = Released(path)
    assert released.number == 0
    for number in (1, 7, 7, 2**63):
        released.advance(number)
        assert released.number == lower_bound(path) == number
    released.close()
    released = Released(path)
    assert released.number == 2**63
    released.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_never_goes_back(tmp_path):
    released = Released(tmp_path / "released")
    released.advance(5)
    with pytest.raises(AssertionError):
        released.advance(4)
    released.close()


def test_creating_keeps_what_is_there(tmp_path):
    path = tmp_path / "released"
    create(path)
    assert lower_bound(path) == 0
    assert path.stat().st_size == 24
    released = Released(path)
    released.advance(3)
    released.close()
    create(path)
    assert lower_bound(path) == 3


def test_another_process_follows(tmp_path):
    path = tmp_path / "released"
    released = Released(path)
    program = (
        "import sys\n"
        "from switch.journal.released import Released\n"
        "released = Released(sys.argv[1], read_only=True)\n"
        "for line in sys.stdin:\n"
        "    print(released.number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for number in (1, 2, 300):
            released.advance(number)
            print(file=reader.stdin, flush=True)
            assert reader.stdout.readline() == f"{number}\n"
        reader.stdin.close()
    released.close()


def test_a_reader_cannot_write(tmp_path):
    create(tmp_path / "released")
    released = Released(tmp_path / "released", read_only=True)
    with pytest.raises(TypeError):
        released.advance(1)
    released.close()


@pytest.mark.parametrize(
    "data", [b"", b"short", bytes(24), b"\xff" * 24, os.urandom(24), bytes(4096)]
)
def test_what_is_no_such_file_bounds_nothing(tmp_path, data):
    path = tmp_path / "released"
    path.write_bytes(data)
    assert lower_bound(path) == 0
    released = Released(path)
    assert released.number == 0
    released.advance(1)
    assert lower_bound(path) == 1
    assert path.stat().st_size == 24
    released.close()


def test_any_flipped_bit_bounds_less_or_the_same(tmp_path):
    path = tmp_path / "released"
    released = Released(path)
    released.advance(0b1010_1010_1010)
    released.close()
    original = path.read_bytes()
    for index in range(24 * 8):
        data = bytearray(original)
        data[index // 8] ^= 1 << index % 8
        path.write_bytes(data)
        assert lower_bound(path) <= 0b1010_1010_1010


def test_killed_between_the_two_stores(tmp_path):
    path = tmp_path / "released"
    released = Released(path)
    released.advance(8)
    released._words[1] = 9
    assert lower_bound(path) == 8
    released.close()
