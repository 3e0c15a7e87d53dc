from __future__ import annotations

import tomllib

import pytest

from switch.config import Config, ConfigError, effective, load, to_toml
from switch.link.settings import Address


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "switch.toml"
        path.write_text(text)
        return path

    return write


def test_the_defaults_are_the_documented_ones():
    config = load().config
    assert config == Config()
    assert str(config.link.listen) == "127.0.0.1:8583"
    assert str(config.http.listen) == "127.0.0.1:8580"
    assert (config.link.spec, config.link.framing) == ("iso87-ascii", "binary2")
    assert config.ledger.hold_lifetime_s == 7 * 24 * 3600
    assert config.ledger.duplicate_window_s == 24 * 3600
    assert config.ledger.transactions_max == 8_000_000
    assert config.journal.shards == 64


def test_flags_win_over_the_environment_which_wins_over_the_file(file):
    path = file(
        'data_directory = "a"\n'
        "[link]\nlisten = '0.0.0.0:1'\nframing = 'ascii4'\n"
        "[link.session]\nsign_on_required = true\necho_interval_ms = 5\n"
    )
    environment = {
        "SWITCH_DATA_DIRECTORY": "b",
        "SWITCH_LINK_LISTEN": "0.0.0.0:2",
        "SWITCH_LINK_SESSION_SIGN_ON_REQUIRED": "false",
        "SWITCH_PORT": "tcp://10.0.0.1:8583",
        "HOME": "/root",
    }
    flags = {"link.listen": "[::1]:3", "link.spec": None}
    loaded = load(path, environment, flags)
    config = loaded.config
    assert config.data_directory == "b"
    assert config.link.listen == Address("::1", 3)
    assert config.link.framing == "ascii4"
    assert config.link.spec == "iso87-ascii"
    assert config.link.session.sign_on_required is False
    assert config.link.session.echo_interval_ms == 5
    assert loaded.sources == {
        "data_directory": "SWITCH_DATA_DIRECTORY",
        "link.listen": "flag",
        "link.framing": str(path),
        "link.session.sign_on_required": "SWITCH_LINK_SESSION_SIGN_ON_REQUIRED",
        "link.session.echo_interval_ms": str(path),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[link]\nlisten = 8583", "link.listen: expected HOST:PORT, got 8583"),
        ("[link]\nlisten = ':1'", "link.listen: expected HOST:PORT, got ':1'"),
        ("[link]\nlisten = '::1:1'", "link.listen: expected HOST:PORT, got '::1:1'"),
        ("[link]\nlisten = 'a:65536'", "link.listen: expected HOST:PORT, got"),
        (
            "[link]\nframing = 'binary3'",
            "link.framing: expected one of binary2, binary4, ascii4, bcd2, got",
        ),
        (
            "[link.session]\nunanswered_max = 0",
            "link.session.unanswered_max: expected an integer from 1 to 1000000, got 0",
        ),
        ("[journal]\nshards = '64'", "journal.shards: expected an integer from 1 to"),
        ("[journal]\nshards = 1.5", "journal.shards: expected an integer from 1 to"),
        ("[link]\ninclusive = 1", "link.inclusive: expected true or false, got 1"),
        ("[link]\nspec = 1", "link.spec: expected text, got 1"),
        ("link = 1", "link: expected a section, got 1"),
        (
            "[link]\nlitsen = 'a:1'",
            "link.litsen: unknown setting (FILE); did you mean link.listen?",
        ),
        ("[nowhere]\na = 1", "nowhere: unknown setting"),
        ("[link", "FILE: expected TOML: "),
        (
            "[link]\nframing = 'bcd2'\nframe_size_max = 10000",
            "link.frame_size_max: expected at most 9999 bytes with framing bcd2, got",
        ),
        (
            "[http]\nlisten = '127.0.0.1:8583'",
            "http.listen: expected an address other than link.listen, got 127.0.0.1:",
        ),
    ],
)
def test_an_error_names_the_key_what_was_expected_what_came_and_from_where(
    file, text, message
):
    path = file(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(message.replace("FILE", str(path)))
    assert str(path) in str(error.value)


def test_errors_of_the_other_sources_name_them():
    with pytest.raises(ConfigError, match=r"got 'x' \(SWITCH_JOURNAL_SHARDS\)"):
        load(environment={"SWITCH_JOURNAL_SHARDS": "x"})
    with pytest.raises(ConfigError, match="did you mean SWITCH_LINK_LISTEN"):
        load(environment={"SWITCH_LINK_LITSEN": "a:1"})
    with pytest.raises(ConfigError, match=r"link\.listen: .* got 'a' \(flag\)"):
        load(flags={"link.listen": "a"})
    with pytest.raises(ConfigError, match=r"link\.x: unknown setting \(flags\)"):
        load(flags={"link.x": None})
    with pytest.raises(ConfigError, match="no such file or directory"):
        load("nowhere.toml")


def test_what_is_printed_loads_again_as_the_same(file):
    loaded = load(flags={"link.listen": "[::1]:0", "log.format": "json"})
    text = to_toml(loaded.config, loaded.sources)
    assert 'listen = "[::1]:0"  # flag' in text
    assert 'spec = "iso87-ascii"  # default' in text
    assert load(file(text)).config == loaded.config
    assert tomllib.loads(to_toml(loaded.config)) == effective(loaded.config)
    assert effective(loaded.config)["link"]["session"]["sign_on"] == "wait"
