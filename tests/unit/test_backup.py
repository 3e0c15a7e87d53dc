"""What a backup holds, when there is none, and how it is known as one."""

import json
from pathlib import Path

import msgspec
import pytest

from switch import backup
from switch.admin.tokens import TokenFile
from switch.backup import Backup, BackupError, back_up, begun_from
from switch.config import AdminSettings, KeysSettings, PublishSettings
from switch.embedded import open_store
from switch.journal.directory import DataDirectory
from switch.journal.errors import JournalError, JournalMissing
from switch.journal.released import lower_bound
from switch.keys.port import KeysError
from switch.publish.jsonlines import event_files
from switch.publish.positions import EnginePosition, PositionFiles
from tests.unit.follower.running import publish_all
from tests.unit.import_files import (
    ACCOUNTS,
    CARDS,
    accounts,
    cards,
    cards_by_pan,
    config_of,
    kept,
    no_progress,
)

PAN = "4000001234567899"


@pytest.fixture
def config(tmp_path):
    config = config_of(tmp_path)
    accounts(config, ACCOUNTS + "a,EUR,1,0\nb,EUR,2,0\n")
    cards(config, f"{CARDS}{PAN},a,4912,active\n")
    TokenFile(Path(config.data_directory) / "tokens.json").add("maria", "viewer")
    publish_all(Path(config.data_directory))
    return config


@pytest.fixture
def target(tmp_path):
    return tmp_path / "backup"


def ids(directory: Path) -> list[str]:
    return [
        json.loads(line)["id"]
        for path in event_files(directory)
        for line in path.read_bytes().splitlines()
    ]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def make(config, target: Path, *, with_key: bool = False) -> Backup:
    return back_up(config, target, no_progress, with_key=with_key)


def restored(config, target: Path):
    return msgspec.structs.replace(config, data_directory=str(target))


def test_it_is_a_data_directory_without_what_can_be_made_again(config, target):
    with open_store(config) as store:  # as a daemon has it
        made = make(config, target)
        assert (made.commit, made.published, made.has_key) == (2, 2, False)
        assert store.journal.head == 2
    expected = ["backup.json", "events", "journal.db", "released", "tokens.json"]
    assert names(target) == expected
    assert lower_bound(target / "released") == 2
    assert target.stat().st_mode & 0o777 == 0o700
    for name in expected:
        if name != "events":
            assert (target / name).stat().st_mode & 0o777 == 0o600
    assert [token.name for token in TokenFile(target / "tokens.json").tokens()] == [
        "maria"
    ]


def test_without_the_key_it_does_not_open_and_with_it_all_is_there(config, target):
    make(config, target)
    with pytest.raises(KeysError, match="cannot be read"):
        open_store(restored(config, target)).__enter__()
    (target / "pan.key").write_bytes(
        (Path(config.data_directory) / "pan.key").read_bytes()
    )
    (target / "pan.key").chmod(0o600)
    assert kept(restored(config, target)) == kept(config)
    again = target.with_name("again")
    assert make(config, again, with_key=True).has_key
    assert kept(restored(config, again)) == kept(config)
    assert (again / "pan.key").stat().st_mode & 0o777 == 0o600
    assert cards_by_pan(restored(config, again), [PAN]) == {PAN: ("a", 4912, 0)}


def test_the_end_of_the_copy_is_what_counts_as_answered(config, target):
    """Cut off, it is refused as any other."""
    make(config, target, with_key=True)
    with open_store(restored(config, target)) as store:
        connection = store.journal._connection
        connection.execute("DELETE FROM commits WHERE number = 2")
    with pytest.raises(JournalError, match="commit 2 was answered"):
        open_store(restored(config, target)).__enter__()


def test_what_was_published_is_not_published_again(config, target):
    accounts(config, ACCOUNTS + "c,EUR,1,0\n")  # not published yet
    before = ids(Path(config.data_directory) / "events")
    make(config, target, with_key=True)
    assert ids(target / "events") == before[-1:]
    assert names(target / "events") == ["events-00000002.jsonl"]
    publish_all(target)
    publish_all(Path(config.data_directory))
    together = before + ids(target / "events")[1:]
    assert together == ids(Path(config.data_directory) / "events")


def test_events_that_are_kept_elsewhere_are_asked_for_their_position(
    config, target, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    publish_all(Path(config.data_directory), elsewhere)
    before = ids(elsewhere)
    config = msgspec.structs.replace(
        config, publish=PublishSettings(directory=str(elsewhere))
    )
    assert make(config, target).published == 2
    assert ids(target / "events") == before[-1:]


@pytest.mark.parametrize("text", [None, b"", b"x" * 20_000 + b"\n"])
def test_without_a_position_everything_is_published_again(config, target, text):
    events = Path(config.data_directory) / "events"
    whole = ids(events)
    for path in event_files(events):
        path.unlink()
    if text is not None:
        (events / "events-00000001.jsonl").write_bytes(text)
    assert make(config, target).published == 0
    assert "events" not in names(target)
    publish_all(target)
    assert ids(target / "events") == whole


def test_what_is_there_is_not_overwritten(config, target):
    for path in (target, target.with_name("backup.partial")):
        path.mkdir()
        (path / "mine").write_text("mine")
        with pytest.raises(BackupError, match=f"{path}, got one that is there"):
            make(config, target)
        assert names(path) == ["mine"]
        (path / "mine").unlink()
        path.rmdir()
    make(config, target)


@pytest.mark.parametrize("step", ["copy_journal", "verify_copy", "_sync"])
@pytest.mark.parametrize("error", [JournalError("scripted"), KeyboardInterrupt()])
def test_one_that_fails_leaves_nothing(config, target, monkeypatch, step, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(backup, step, fail)
    before = names(target.parent)
    with pytest.raises(type(error)):
        make(config, target)
    assert names(target.parent) == before


def test_keys_and_tokens_that_are_kept_elsewhere_stay_there(config, target, tmp_path):
    key = tmp_path / "key"
    (Path(config.data_directory) / "pan.key").rename(key)
    config = msgspec.structs.replace(
        config,
        keys=KeysSettings(pan_key_file=str(key)),
        admin=AdminSettings(tokens_file=str(tmp_path / "tokens")),
    )
    with pytest.raises(BackupError, match="copy it from there"):
        make(config, target, with_key=True)
    make(config, target)
    assert "tokens.json" not in names(target)
    assert kept_accounts(restored(config, target)) == {"a", "b"}


def kept_accounts(config) -> set[str]:
    with open_store(config) as store:
        return {v.account for state in store.recovered.states for v in state.accounts()}


def test_there_is_none_of_what_is_no_data_directory(tmp_path, target):
    with pytest.raises(JournalMissing):
        make(config_of(tmp_path), target)
    assert names(tmp_path) == []


def test_a_backup_is_known_as_one(config, target):
    made = make(config, target)
    directory = DataDirectory.open(target)
    assert begun_from(directory) == made
    directory.backup.write_text("{}")
    with pytest.raises(BackupError, match=r"backup\.json: expected what"):
        begun_from(directory)
    directory.backup.unlink()
    assert begun_from(directory) is None


def test_how_far_engines_are_is_in_it(config, target):
    source = DataDirectory.open(config.data_directory, create=False)
    with open_store(config) as store:
        identity = store.journal.identity
    files = PositionFiles(source.publish, "kafka", identity)
    position = EnginePosition(identity.hex(), 1, {0: 1})
    with files:
        files.store(position)
        files.set_aside([])
    make(config, target, with_key=True)
    assert names(target / "publish") == ["kafka.position"]
    with open_store(restored(config, target)) as store:
        copied = PositionFiles(target / "publish", "kafka", store.journal.identity)
        assert copied.load() == position
