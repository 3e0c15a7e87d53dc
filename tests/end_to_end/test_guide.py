"""What an operator is told to do: the commands of docs/operations.md as they stand."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import (
    ROOT,
    Client,
    Daemon,
    environment,
    events,
    make_bank,
    request,
    run_switch,
    verify,
    wait_until,
)

GUIDE = ROOT / "docs" / "operations.md"
BALANCE = 10**6
# A machine that stands still for a while shall not take approvals back.
PATIENT = ("--set", "link.answer_deadline_ms=60000")
BEGINS = "begins from a backup: what was answered after it is not known here"


def blocks(heading: str) -> list[list[str]]:
    """The indented blocks below a heading, up to the next one."""
    text = GUIDE.read_text()
    section = text.partition(f"\n{heading}\n")[2]
    assert section, f"{GUIDE}: no {heading}"
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"(?:^ {4}.+\n)+", section, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in found]


class Operator:
    """A shell in a folder, with the words of the guide made those of the test."""

    def __init__(self, folder: Path, words: dict[str, str]) -> None:
        self.folder = folder
        self.words = words
        folder.mkdir()
        command = folder / "bin" / "switch"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m switch "$@"\n')
        command.chmod(0o755)

    def said(self, line: str) -> str:
        for word, ours in self.words.items():
            line = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", ours, line)
        return line

    def does(self, *lines: str) -> str:
        """Each line has to end well; what the last one printed."""
        printed = ""
        for line in lines:
            done = subprocess.run(
                ["sh", "-c", self.said(line)],
                cwd=self.folder,
                env=environment()
                | {
                    "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                    "PYTHONPATH": str(ROOT),
                },
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"
            printed = done.stdout
        return printed


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path, *PATIENT) as daemon:
        daemon.pans = make_bank(daemon.data, 2, BALANCE)
        yield daemon


@pytest.fixture
def standby(tmp_path):
    """What the backup is restored for."""
    (tmp_path / "standby").mkdir()
    with Daemon(tmp_path / "standby", *PATIENT) as daemon:
        yield daemon


def buy(daemon: Daemon, first: int, last: int) -> list[dict[int | str, str]]:
    with Client(daemon.port) as client:
        return [
            client.ask(request("0100", number, daemon.pans[number % 2], number))
            for number in range(first, last + 1)
        ]


def is_published(daemon: Daemon) -> bool:
    metrics = daemon.metrics()
    heads = [metrics[f"switch_{name}_head"] for name in ("journal", "published")]
    return heads[0] == heads[1]


# -- keys


def test_wrapping_and_rotation(daemon, tmp_path):
    operator = Operator(
        tmp_path / "operator", {"/etc/switch": ".", "switch.toml": "switch.toml"}
    )
    config = operator.folder / "switch.toml"
    config.write_text(f'data_directory = "{daemon.data}"\n')
    (make, setting, wrap, rotate) = blocks("### Wrapping and rotation")
    keys = operator.folder / "wrapping.keys"
    daemon.options = ("--config", str(config), *PATIENT)
    daemon.start()
    first = buy(daemon, 1, 1)

    operator.does(*make)
    with config.open("a") as file:
        absolute = [
            line.replace("/etc/switch", str(operator.folder)) for line in setting
        ]
        file.write("\n".join(absolute) + "\n")
    daemon.kill()  # a start with the setting, before the key is wrapped
    daemon.start()
    shown = operator.does(*wrap)
    assert "wrapped by" in shown
    old = keys.read_text()
    operator.does(rotate[0])
    daemon.kill()  # a start in between
    daemon.start()
    assert buy(daemon, 1, 1) == first
    operator.does(*rotate[1:])
    assert len(keys.read_text().splitlines()) == 1
    assert keys.stat().st_mode & 0o777 == 0o600
    daemon.kill()
    daemon.start()
    assert buy(daemon, 1, 1) == first
    assert daemon.stop() == 0
    keys.write_text(old)  # the key that was rotated out
    daemon.spawn()
    assert daemon.wait() == 74
    assert "is wrapped: expected key" in daemon.log_tail()


def test_nothing_is_rotated_without_a_wrapping_key(daemon):
    before = (daemon.data / "pan.key").read_bytes()
    ended = run_switch("keys", "rotate", "--data", daemon.data)
    assert ended.returncode == 2
    assert "keys.wrapping_key_file" in ended.stderr
    assert (daemon.data / "pan.key").read_bytes() == before


# -- backup


def back_up_and_restore(daemon: Daemon, standby: Daemon, folder: Path) -> Operator:
    """As told, with the key from its safe; up to the start."""
    operator = Operator(folder / "operator", {"BACKUP": "backup"})
    (backup, restore) = blocks("## Backup and restore")
    operator.words["DIR"] = str(daemon.data)
    operator.does(*backup)
    shutil.copy(daemon.data / "pan.key", operator.folder)
    operator.words["DIR"] = str(standby.data)
    assert restore[-1] == "switch serve --data DIR"
    said = operator.does(*restore[:-1])
    assert said.startswith("ok: ")
    standby.pans = daemon.pans
    return operator


def test_backup_and_restore(daemon, standby, tmp_path):
    daemon.start()
    before = buy(daemon, 1, 20)
    back_up_and_restore(daemon, standby, tmp_path)
    buy(daemon, 21, 30)
    daemon.kill()
    standby.start()
    assert standby.log_records(BEGINS)
    assert buy(standby, 1, 20) == before
    assert standby.account("A1")["held"] == sum(range(1, 20, 2))
    assert standby.stop() == 0
    assert verify(standby.data)["ok"]


def test_how_much_a_backup_misses(daemon, standby, tmp_path):
    daemon.start()
    buy(daemon, 1, 10)
    operator = back_up_and_restore(daemon, standby, tmp_path)
    buy(daemon, 11, 20)
    wait_until(lambda: is_published(daemon), "all to be published")
    daemon.kill()
    wait_until(lambda: not daemon.processes(), "the follower to end")
    text = " ".join(GUIDE.read_text().split())
    (look,) = re.findall(r"`(cp [^`]*OLD/released[^`]*)`", text)
    operator.words["OLD"] = str(daemon.data)
    operator.does(look)
    standby.spawn()
    assert standby.wait() == 74
    assert "commit 22 was answered, but the journal ends before it" in (
        standby.log_tail()
    )
    operator.does("cp --preserve=mode BACKUP/released DIR/")
    standby.start()
    assert {record["commit"] for record in standby.log_records(BEGINS)} == {12}
    # What the old event files say is missing is what is missing.
    lost = [event["stan"] for event in events(daemon.data) if event["commit"] > 12]
    assert lost == [f"{number:06d}" for number in range(11, 21)]
    assert standby.stop() == 0


def test_events_that_are_ahead_of_a_restored_journal(daemon, standby, tmp_path):
    """Publishing waits for the operator; the answers do not."""
    elsewhere = tmp_path / "elsewhere"
    options = ("--set", f"publish.directory={elsewhere}")
    daemon.options = (*PATIENT, *options)
    daemon.start()
    buy(daemon, 1, 10)
    wait_until(lambda: is_published(daemon), "all to be published")
    operator = Operator(tmp_path / "operator", {})
    operator.does(
        f"switch backup backup --with-key --data {daemon.data} {' '.join(options)}"
    )
    buy(daemon, 11, 20)
    wait_until(lambda: is_published(daemon), "all to be published")
    assert daemon.stop() == 0
    backup = operator.folder / "backup"
    shutil.copytree(backup, standby.data)
    standby.pans, standby.options = daemon.pans, daemon.options
    standby.start()
    wait_until(lambda: standby.log_records("cannot go on, will try again"), "a refusal")
    assert buy(standby, 11, 11)[0][39] == "00"
    standby.kill()
    wait_until(lambda: not standby.processes(), "the follower to end")
    elsewhere.rename(tmp_path / "away")
    shutil.copytree(backup / "events", elsewhere)
    standby.start()
    wait_until(lambda: is_published(standby), "all to be published")
    assert standby.stop() == 0
    new = [event["commit"] for event in events_in(elsewhere)]
    # The newest one that is in the backup, and the purchase behind it.
    assert new == [12, 13]


def events_in(directory: Path) -> list[dict[str, object]]:
    link = directory.with_name("link")
    link.mkdir()
    (link / "events").symlink_to(directory)
    return list(events(link))


# -- upgrade


def test_upgrade_and_a_newer_directory(daemon, tmp_path):
    """To the same version, for want of another; the refusal is as the guide has it."""
    daemon.start()
    first = buy(daemon, 1, 5)
    operator = Operator(
        tmp_path / "operator", {"BACKUP": "backup", "DIR": str(daemon.data)}
    )
    (backup, start) = blocks("## Upgrade")
    operator.does(*backup)
    assert daemon.stop() == 0
    assert start[-1] == "switch serve --data DIR"
    assert operator.does(*start[:-1]).startswith("ok: ")
    daemon.start()
    assert buy(daemon, 1, 5) == first
    assert daemon.stop() == 0
    connection = sqlite3.connect(daemon.data / "journal.db")
    connection.execute("UPDATE meta SET format = 2")
    connection.commit()
    connection.close()
    daemon.spawn()
    assert daemon.wait() == 74
    said = "journal of another format version: expected 1, as program version"
    assert said in daemon.log_tail()
    assert said in " ".join(GUIDE.read_text().split())


# -- room


def test_old_event_files_can_go_and_the_others_be_elsewhere(daemon, tmp_path):
    rotated = (*PATIENT, "--set", "publish.rotate_bytes=4096")
    daemon.options = rotated
    daemon.start()
    buy(daemon, 1, 40)
    wait_until(lambda: is_published(daemon), "all to be published")
    folder = daemon.data / "events"
    files = sorted(folder.iterdir())
    assert len(files) > 4
    taken = [event["id"] for event in events(daemon.data)]
    for path in files[:-2]:
        path.unlink()
    buy(daemon, 41, 60)
    wait_until(lambda: is_published(daemon), "all to be published")
    daemon.kill()
    wait_until(lambda: not daemon.processes(), "the follower to end")
    daemon.start()
    buy(daemon, 61, 70)
    assert daemon.stop() == 0

    elsewhere = tmp_path / "elsewhere"
    shutil.move(folder, elsewhere)
    daemon.options = (*rotated, "--set", f"publish.directory={elsewhere}")
    daemon.start()
    buy(daemon, 71, 80)
    assert daemon.stop() == 0
    left = [str(event["id"]) for event in events_in(elsewhere)]
    assert len(set(left)) == len(left)
    assert len(set(taken) | set(left)) == 4 + 80
    assert not folder.exists()


def test_what_is_made_again_can_go_and_all_can_move(daemon, tmp_path):
    daemon.start()
    first = buy(daemon, 1, 30)
    assert daemon.stop() == 0
    for name in ("readmodel.db", "snapshots.db"):
        for suffix in ("", "-wal", "-shm"):
            (daemon.data / (name + suffix)).unlink(missing_ok=True)
    daemon.start()
    assert buy(daemon, 1, 30) == first
    assert daemon.stop() == 0
    assert (daemon.data / "snapshots.db").stat().st_size > 0
    assert (daemon.data / "readmodel.db").stat().st_size > 0

    text = " ".join(GUIDE.read_text().split())
    (move, check) = re.findall(r"`([^`]*LARGER)`; ", text)[:2]
    operator = Operator(
        tmp_path / "operator", {"DIR": str(daemon.data), "LARGER": "larger"}
    )
    operator.does(move, check)
    shutil.rmtree(daemon.data)
    (operator.folder / "larger").rename(daemon.data)
    daemon.start()
    assert buy(daemon, 1, 30) == first
    assert daemon.stop() == 0
