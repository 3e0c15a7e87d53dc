"""Tokens: shown once, kept as hashes, and what of their file is refused."""

import json

import msgspec
import pytest

from switch.admin.tokens import ROLES, TOKENS_MAX, TokenFile, TokensError
from switch.cli.main import main


@pytest.fixture
def file(tmp_path):
    return TokenFile(tmp_path / "tokens.json")


def test_a_token_is_found_and_another_is_not(file):
    token = file.add("maria", "operator")
    caller = file.find(token)
    assert (caller.name, caller.role) == ("maria", "operator")
    for other in (token[:-1], token + "x", "", "maria", token.upper()):
        assert file.find(other) is None


def test_roles_include_those_before_them(file):
    for at, role in enumerate(ROLES):
        caller = file.find(file.add(role, role))
        assert [caller.may(each) for each in ROLES] == [n <= at for n in range(3)]


def test_the_file_is_the_owners_alone_and_has_no_token(file):
    token = file.add("maria", "admin")
    assert file.path.stat().st_mode & 0o777 == 0o600
    text = file.path.read_text()
    assert token not in text
    assert token.removeprefix("switch_") not in text
    known = json.loads(text)["tokens"][0]
    assert set(known) == {"name", "role", "salt", "hash", "added_at"}
    assert list(file.path.parent.iterdir()) == [file.path]


def test_two_tokens_are_hashed_with_different_salts(file):
    file.add("a", "viewer")
    file.add("b", "viewer")
    assert len({known.salt for known in file.tokens()}) == 2


def test_a_change_is_seen_by_whoever_has_read_the_file_before(file):
    running = TokenFile(file.path)
    assert running.find("switch_x") is None
    token = file.add("maria", "viewer")
    assert running.find(token) is not None
    file.revoke("maria")
    assert running.find(token) is None
    again = file.add("maria", "viewer")
    file.path.unlink()
    assert running.find(again) is None


@pytest.mark.parametrize(
    "name", ["", "Maria", "a b", "-a", "x" * 33, "a\n", "a/b", "é"]
)
def test_a_name_has_its_form(file, name):
    with pytest.raises(TokensError, match=r"^name: expected 1 to 32"):
        file.add(name, "viewer")
    assert not file.path.exists()


def test_a_name_is_there_once(file):
    file.add("maria", "viewer")
    with pytest.raises(TokensError, match="expected a new one, got maria"):
        file.add("maria", "admin")
    with pytest.raises(TokensError, match="expected one of a token"):
        file.revoke("joana")
    assert [known.name for known in file.tokens()] == ["maria"]


def test_there_is_a_bound(file):
    file.add("first", "viewer")
    content = json.loads(file.path.read_text())
    (known,) = content["tokens"]
    content["tokens"] = [known | {"name": f"n{n}"} for n in range(TOKENS_MAX)]
    file.path.write_text(json.dumps(content))
    with pytest.raises(TokensError, match=f"at most {TOKENS_MAX} tokens"):
        file.add("one-more", "viewer")


def test_a_file_that_others_may_read_is_refused(file):
    token = file.add("maria", "admin")
    file.path.chmod(0o640)
    with pytest.raises(TokensError, match="expected mode 0600, got 0640"):
        file.find(token)
    file.path.chmod(0o600)
    assert file.find(token) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"version": 2, "tokens": []}',
        b'{"version": 1, "tokens": [{"name": "a", "role": "viewer", "salt": "zz"}]}',
        b'{"version": 1, "tokens": [{"name": "a", "role": "root"}]}',
    ],
)
def test_a_file_of_another_form_is_refused(file, content):
    file.path.write_bytes(content)
    file.path.chmod(0o600)
    with pytest.raises(TokensError, match="expected what `switch tokens` writes"):
        file.find("switch_x")
    with pytest.raises(TokensError, match="expected what `switch tokens` writes"):
        file.add("maria", "viewer")
    assert file.path.read_bytes() == content


def test_the_commands_add_list_and_revoke(tmp_path, capsys):
    data = str(tmp_path / "data")

    def run(*words):
        code = main(["tokens", *words, "--data", data])
        return code, capsys.readouterr()

    code, said = run("add", "maria", "--role", "operator")
    token = said.out.strip()
    assert (code, said.err) == (0, "")
    file = TokenFile(tmp_path / "data" / "tokens.json")
    caller = file.find(token)
    assert caller is not None
    assert caller.name == "maria"
    code, said = run("list", "--json")
    (listed,) = msgspec.json.decode(said.out)
    assert (listed["name"], listed["role"]) == ("maria", "operator")
    assert token not in said.out
    code, said = run("add", "maria", "--role", "viewer")
    assert code == 74
    assert "expected a new one" in said.err
    assert run("revoke", "maria")[0] == 0
    assert file.find(token) is None


def test_a_directory_with_tokens_only_can_be_initialised(tmp_path, capsys):
    data = tmp_path / "data"
    assert main(["tokens", "add", "maria", "--role", "admin", "--data", str(data)]) == 0
    rows = tmp_path / "accounts.csv"
    rows.write_text("account,currency,balance,credit_limit\nA,EUR,1,0\n")
    assert main(["accounts", "import", str(rows), "--data", str(data)]) == 0
    assert (data / "journal.db").exists()
    capsys.readouterr()
