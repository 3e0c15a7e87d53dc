"""Many seeds, some of which fail; and on from where it ended."""

import json

from tests.simulation import many


def test_it_names_what_failed_and_goes_on_where_it_ended(tmp_path, monkeypatch, capfd):
    ran = tmp_path / "ran"

    def fails_at_times(seed):
        with ran.open("a") as file:
            file.write(f"{seed}\n")
        if seed % 150 == 0:
            raise ValueError("at times")

    def numbers():
        found = sorted(map(int, ran.read_text().split()))
        ran.unlink()
        return found

    monkeypatch.setitem(many.WORLDS, "journal", fails_at_times)
    where = ["--processes", "1", "--directory", str(tmp_path / "far")]
    assert many.main(["journal", "--seeds", "250", *where]) == 1
    assert numbers() == list(range(1, 251))
    told = json.loads(capfd.readouterr().out)
    assert (told["done"], told["failed"]) == (250, [150])
    assert many.main(["journal", "--seeds", "310", *where]) == 1
    assert numbers() == list(range(251, 311))
    assert json.loads(capfd.readouterr().out)["failed"] == [150, 300]
    # Of another source nothing counts.
    monkeypatch.setattr(many, "digest_of_source", lambda: "another")
    assert many.main(["journal", "--seeds", "10", *where]) == 0
    assert numbers() == list(range(1, 11))
