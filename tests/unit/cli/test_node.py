"""Commands with the configuration of a cluster's node, without the cluster."""

import json

import pytest

from switch.cli import exits, main

CONFIG = """\
data_directory = {data}
[cluster]
name = "bank"
node = "a"
pan_key_file = "/none/pan.key"
[cluster.etcd]
endpoints = ["127.0.0.1:1"]
[cluster.cassandra]
contact_points = ["127.0.0.1:1"]
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(CONFIG.format(data=json.dumps(str(tmp_path / "data"))))
    return str(path)


def test_tokens_are_kept_where_a_node_has_events_and_no_journal(config, tmp_path):
    (tmp_path / "data" / "events").mkdir(parents=True)
    words = ("tokens", "add", "maria", "--role", "admin", "--config", config)
    assert main.main(words) == exits.OK
    assert "maria" in (tmp_path / "data" / "tokens.json").read_text()


def test_a_commit_is_no_place_in_a_cluster(config, capsys):
    words = ("publish", "rewind", "kafka", "--to-commit", "5", "--config", config)
    assert main.main(words) != exits.OK
    assert "expected --to-id or --to-time, got --to-commit" in capsys.readouterr().err


def test_a_backup_is_of_a_switch_alone(config, tmp_path, capsys):
    assert main.main(("backup", str(tmp_path / "to"), "--config", config)) != exits.OK
    said = capsys.readouterr().err
    assert "expected a switch alone, got a node of the cluster bank" in said


def test_keys_are_those_of_the_cluster(config, tmp_path, capsys):
    """A node has no key in its data directory."""
    (tmp_path / "data" / "events").mkdir(parents=True)
    assert main.main(("keys", "show", "--config", config)) != exits.OK
    assert "/none/pan.key" in capsys.readouterr().err
