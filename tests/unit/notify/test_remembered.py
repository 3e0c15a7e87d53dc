"""What was dealt with, over restarts and torn ends."""

import pytest

from switch.notify.remembered import Remembered, RememberedError


def test_it_is_known_after_a_restart(tmp_path):
    path = tmp_path / "ids"
    for first in (0, 10, 20):
        done = Remembered(100, path)
        assert all(f"1-{number}" in done for number in range(first))
        for number in range(first, first + 10):
            assert f"1-{number}" not in done
            done.add(f"1-{number}")
        done.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_of_one_that_was_killed_what_it_had_written_is_known(tmp_path):
    path = tmp_path / "ids"
    done = Remembered(100, path)
    done.add("1-1")
    with path.open("ab") as file:
        file.write(b"1-2")  # and no more
    done.close()
    again = Remembered(100, path)
    assert "1-1" in again
    assert "1-2" not in again
    again.add("1-3")
    again.close()
    assert path.read_text() == "1-1\n1-3\n"


def test_the_file_and_what_is_known_are_bounded(tmp_path):
    path = tmp_path / "ids"
    done = Remembered(5, path)
    sizes = set()
    for number in range(100):
        done.add(f"1-{number:02d}")
        sizes.add(path.read_text().count("\n"))
    assert max(sizes) < 10
    assert [number for number in range(100) if f"1-{number:02d}" in done] == [
        *range(95, 100)
    ]
    done.close()


@pytest.mark.parametrize("strange", ["a\nb", "x" * 65, "\x00"])
def test_an_id_that_is_no_line_is_known_while_it_lives(tmp_path, strange):
    path = tmp_path / "ids"
    done = Remembered(5, path)
    done.add(strange)
    assert strange in done
    done.close()
    assert path.read_bytes() == b""


def test_a_second_process_is_told(tmp_path):
    done = Remembered(5, tmp_path / "ids")
    with pytest.raises(RememberedError, match="the only one to use"):
        Remembered(5, tmp_path / "ids")
    done.close()
    Remembered(5, tmp_path / "ids").close()
