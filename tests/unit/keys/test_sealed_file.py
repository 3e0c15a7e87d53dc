import pytest

from switch.keys import sealed_file
from switch.keys.port import KeysError

PAN = b"5413330089010434"


def test_a_new_key_is_its_owners_alone(tmp_path):
    path = tmp_path / "pan.key"
    keys = sealed_file.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["pan.key"]
    again = sealed_file.load(path)
    assert again.fingerprint == keys.fingerprint
    assert again.unseal(keys.seal(PAN), keys.pan_hash(PAN)) == PAN


def test_two_are_different(tmp_path):
    fingerprints = {sealed_file.create(tmp_path / name).fingerprint for name in "ab"}
    assert len(fingerprints) == 2


def test_an_existing_key_is_never_replaced(tmp_path):
    path = tmp_path / "pan.key"
    fingerprint = sealed_file.create(path).fingerprint
    with pytest.raises(KeysError, match=r"pan\.key exists"):
        sealed_file.create(path)
    assert sealed_file.load(path).fingerprint == fingerprint


def test_an_interrupted_creation_is_begun_again(tmp_path):
    (tmp_path / "pan.key.new").write_text("switch-pan-key-1 half")
    sealed_file.create(tmp_path / "pan.key")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pan.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "pan.key"
    sealed_file.create(path)
    path.chmod(mode)
    with pytest.raises(
        KeysError, match=rf"pan\.key.*expected mode 0600, got 0{mode:o}"
    ):
        sealed_file.load(path)
    path.chmod(0o400)
    sealed_file.load(path)


def test_a_damaged_key_is_refused_and_not_shown(tmp_path):
    path = tmp_path / "pan.key"
    sealed_file.create(path)
    line = path.read_text()
    key = line.split()[1]
    other = ("0" if key[5] != "0" else "1") + key[6:]
    for text, message in (
        (line.replace(key, key[:5] + other), "not copied whole"),
        (line.replace(key, key[1:]), "got 90 other bytes"),
        (line.upper(), "expected a line"),
        ("", "got 0 other bytes"),
        ("x" * 1000, "got 256 other bytes"),
    ):
        path.write_text(text)
        with pytest.raises(KeysError, match=message) as caught:
            sealed_file.load(path)
        assert key[8:] not in str(caught.value)


def test_a_missing_one(tmp_path):
    with pytest.raises(KeysError, match=r"none\.key cannot be read: No such file"):
        sealed_file.load(tmp_path / "none.key")
    with pytest.raises(KeysError, match="cannot be created: No such file"):
        sealed_file.create(tmp_path / "no" / "pan.key")


def test_no_file_at_all(tmp_path):
    (tmp_path / "pan.key").mkdir(mode=0o700)
    with pytest.raises(KeysError, match="got 0 other bytes"):
        sealed_file.load(tmp_path / "pan.key")
