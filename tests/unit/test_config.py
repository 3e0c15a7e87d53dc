from __future__ import annotations

import json
import tomllib

import pytest

from switch.check import check
from switch.config import LINKS_MAX, Config, ConfigError, effective, load, to_toml
from switch.link.settings import Address, scheme_of


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "switch.toml"
        path.write_text(text)
        return path

    return write


def problems_of(*arguments, **more):
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **more)
    return caught.value.problems


def test_the_defaults_are_the_documented_ones():
    config = load().config
    assert config == Config()
    assert list(config.links) == ["main"]
    link = config.links["main"]
    assert (link.role, str(link.address)) == ("listen", "127.0.0.1:8583")
    assert (link.spec, link.framing, link.scheme) == ("iso87-ascii", "binary2", 0)
    assert str(config.http.listen) == "127.0.0.1:8580"
    assert config.ledger.hold_lifetime_s == 7 * 24 * 3600
    assert config.ledger.duplicate_window_s == 24 * 3600
    assert config.ledger.transactions_max == 8_000_000
    assert config.journal.shards == 64


def test_flags_win_over_the_environment_which_wins_over_the_file(file):
    path = file(
        'data_directory = "a"\n'
        "[links.visa]\naddress = '0.0.0.0:1'\nframing = 'ascii4'\n"
        "[links.visa.session]\nsign_on_required = true\necho_interval_ms = 5\n"
    )
    environment = {
        "SWITCH_DATA_DIRECTORY": "b",
        "SWITCH_LINKS_VISA_ADDRESS": "0.0.0.0:2",
        "SWITCH_LINK_SESSION_SIGN_ON_REQUIRED": "false",
        "SWITCH_PORT": "tcp://10.0.0.1:8583",
        "HOME": "/root",
    }
    flags = {"links.visa.address": "[::1]:3", "link.spec": None}
    loaded = load(path, environment, flags)
    link = loaded.config.links["visa"]
    assert loaded.config.data_directory == "b"
    assert link.address == Address("::1", 3)
    assert (link.framing, link.spec) == ("ascii4", "iso87-ascii")
    assert link.session.sign_on_required is False
    assert link.session.echo_interval_ms == 5
    assert loaded.sources == {
        "data_directory": "SWITCH_DATA_DIRECTORY",
        "links.visa.address": "flag",
        "links.visa.framing": str(path),
        "links.visa.session.sign_on_required": "SWITCH_LINK_SESSION_SIGN_ON_REQUIRED",
        "links.visa.session.echo_interval_ms": str(path),
    }


# -- which links there are, and whose a setting without a name is


def test_the_file_says_which_links_there_are(file):
    path = file("[links.b]\naddress = 'a:1'\n[links.a-2]\naddress = 'a:2'\n")
    environment = {"SWITCH_LINKS_A_2_CONNECTIONS_MAX": "3"}
    links = load(path, environment).config.links
    assert list(links) == ["b", "a-2"]
    assert links["a-2"].connections_max == 3
    (problem,) = problems_of(path, flags={"links.c.tpdu": "true"})
    assert problem.startswith("links.c.tpdu: unknown setting (flags)")
    (problem,) = problems_of(path, {"SWITCH_LINKS_C_TPDU": "true"})
    assert problem.startswith("SWITCH_LINKS_C_TPDU: unknown setting (environment)")


def test_without_any_in_the_file_flags_name_them():
    flags = {"links.a.address": "h:1", "links.b.address": "h:2", "links.a.tpdu": "true"}
    links = load(flags=flags).config.links
    assert {name: str(link.address) for name, link in links.items()} == {
        "a": "h:1",
        "b": "h:2",
    }
    assert links["a"].tpdu


@pytest.mark.parametrize(
    ("names", "whose"), [(["main"], "main"), (["a"], "a"), (["a", "main"], "main")]
)
def test_a_setting_without_a_name_is_the_only_links_or_that_of_main(file, names, whose):
    tables = (f"[links.{name}]\naddress = 'h:{n + 1}'" for n, name in enumerate(names))
    path = file("\n".join(tables))
    links = load(path, {"SWITCH_LINK_SPEC": "s"}, {"link.address": "h:9"}).config.links
    assert {
        name: (link.spec, link.address.port)
        for name, link in links.items()
        if link.address.port == 9
    } == {whose: ("s", 9)}


def test_a_setting_without_a_name_is_nobodys_when_there_are_several(file):
    path = file("[links.a]\naddress = 'h:1'\n[links.b]\naddress = 'h:2'\n")
    (problem,) = problems_of(path, flags={"link.address": "h:3"})
    assert problem == (
        "link.address: expected one link, or one named main, got a, b; name it: "
        "--set links.a.address=... (flag)"
    )
    (problem,) = problems_of(path, {"SWITCH_LINK_SPEC": "s"})
    assert "--set links.a.spec=... (SWITCH_LINK_SPEC)" in problem


def test_scheme_numbers_are_by_name_and_stay(file):
    links = {"main": 0, "visa": 92, "mastercard": 1}
    assert {name: scheme_of(name) for name in links} == links
    path = file("[links.visa]\n[links.backup]\naddress = 'h:1'\nscheme = 92\n")
    assert {n: each.scheme for n, each in load(path).config.links.items()} == {
        "visa": 92,
        "backup": 92,
    }


def test_two_names_that_happen_to_give_one_number_have_to_be_told_apart(file):
    names: dict[int, str] = {}
    for number in range(200):
        name = f"n{number}"
        if (other := names.setdefault(scheme_of(name), name)) != name:
            break
    tables = f"[links.{other}]\naddress = 'h:1'\n[links.{name}]\naddress = 'h:2'\n"
    (problem,) = problems_of(file(tables))
    assert problem.startswith(f"links.{name}.scheme: expected a number: by its name")
    assert load(file(tables + "scheme = 5\n")).config.links[name].scheme == 5


# -- what is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[links.a]\naddress = 8583", "links.a.address: expected HOST:PORT, got 8583"),
        ("[links.a]\naddress = ':1'", "links.a.address: expected HOST:PORT, got ':1'"),
        ("[links.a]\naddress = '::1:1'", "links.a.address: expected HOST:PORT, got"),
        ("[links.a]\naddress = 'a:65536'", "links.a.address: expected HOST:PORT, got"),
        (
            "[links.a]\nframing = 'binary3'",
            "links.a.framing: expected one of binary2, binary4, ascii4, bcd2, got",
        ),
        ("[links.a]\nrole = 'both'", "links.a.role: expected one of listen, dial, got"),
        (
            "[links.a.session]\nunanswered_max = 0",
            "links.a.session.unanswered_max: expected an integer from 1 to 1000000,",
        ),
        (
            "[links.a]\nscheme = 128",
            "links.a.scheme: expected an integer from 0 to 127",
        ),
        ("[journal]\nshards = '64'", "journal.shards: expected an integer from 1 to"),
        ("[journal]\nshards = 1.5", "journal.shards: expected an integer from 1 to"),
        (
            "[links.a]\ninclusive = 1",
            "links.a.inclusive: expected true or false, got 1",
        ),
        ("[links.a]\nspec = 1", "links.a.spec: expected text, got 1"),
        ("links = 1", "links: expected a section, got 1"),
        ("[link]\nspec = 'a'", "link: expected a table for each link, such as [links."),
        ("[links.A_B]", "links.A_B: expected a name of lower-case letters, digits and"),
        (
            "[links.a]\nadress = 'a:1'",
            "links.a.adress: unknown setting (FILE); did you mean links.a.address?",
        ),
        ("[nowhere]\na = 1", "nowhere: unknown setting"),
        ("[link", "FILE: expected TOML: "),
        (
            "[links.a]\nframing = 'bcd2'\nframe_size_max = 10000",
            "links.a.frame_size_max: expected at most 9999 bytes with framing bcd2",
        ),
        (
            "[links.a]\nredial_min_ms = 40000",
            "links.a.redial_min_ms: expected at most redial_max_ms, 30000, got 40000",
        ),
        (
            "[links.a]\nrole = 'dial'\naddress = 'h:0'",
            "links.a.address: expected a port to dial, got h:0",
        ),
        (
            "[http]\nlisten = '127.0.0.1:8583'",
            "http.listen: expected an address other than links.main.address, 127.0.0",
        ),
        (
            "[links.a]\naddress = '127.0.0.1:7'\n[links.b]\naddress = '0.0.0.0:7'",
            "links.b.address: expected an address other than links.a.address, 127.0.0",
        ),
    ],
)
def test_an_error_names_the_key_what_was_expected_what_came_and_from_where(
    file, text, message
):
    path = file(text)
    (problem,) = problems_of(path)
    assert problem.startswith(message.replace("FILE", str(path)))
    assert str(path) in problem


def test_all_that_is_wrong_is_told_and_the_first_of_it_stands_for_it(file):
    path = file("a = 1\n[links.a]\nspec = 1\n[http]\nlisten = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    names = [problem.partition(":")[0] for problem in caught.value.problems]
    assert names == ["a", "links.a.spec", "http.listen"]
    assert str(caught.value) == (
        f"a: unknown setting ({path}) (and 2 more: `switch config check` names them)"
    )


def test_addresses_that_can_be_had_at_once_are_no_clash(file):
    text = "".join(
        f"[links.l{number}]\n{line}\nscheme = {number}\n"
        for number, line in enumerate(
            [
                *("address = '127.0.0.1:7'", "address = '127.0.0.2:7'"),
                *("address = '[::]:7'", "address = '127.0.0.1:0'"),
                *("address = '127.0.0.1:0'", "role = 'dial'\naddress = '127.0.0.1:7'"),
            ]
        )
    )
    assert len(load(file(text)).config.links) == 6


def test_there_is_a_bound_on_links(file):
    text = "".join(
        f"[links.l{number}]\naddress = 'h:{number + 1}'\nscheme = 1\n"
        for number in range(LINKS_MAX + 1)
    )
    (problem,) = problems_of(file(text))
    assert problem.startswith(f"links: expected at most {LINKS_MAX}, got 65")


def test_errors_of_the_other_sources_name_them():
    with pytest.raises(ConfigError, match=r"got 'x' \(SWITCH_JOURNAL_SHARDS\)"):
        load(environment={"SWITCH_JOURNAL_SHARDS": "x"})
    with pytest.raises(ConfigError, match="did you mean SWITCH_LINK_ADDRESS"):
        load(environment={"SWITCH_LINK_ADRESS": "a:1"})
    with pytest.raises(ConfigError, match=r"links\.main\.address: .* got 'a' \(flag\)"):
        load(flags={"link.address": "a"})
    with pytest.raises(ConfigError, match=r"link\.x: unknown setting \(flags\)"):
        load(flags={"link.x": 1})
    with pytest.raises(ConfigError, match="no such file or directory"):
        load("nowhere.toml")


# -- printing and checking


def test_what_is_printed_loads_again_as_the_same(file):
    flags = {
        "links.visa.address": "[::1]:0",
        "links.b.role": "dial",
        "log.format": "json",
    }
    loaded = load(flags=flags)
    text = to_toml(loaded.config, loaded.sources)
    assert 'address = "[::1]:0"  # flag' in text
    assert 'spec = "iso87-ascii"  # default' in text
    assert "scheme = 92  # default" in text
    assert load(file(text)).config == loaded.config
    assert tomllib.loads(to_toml(loaded.config)) == effective(loaded.config)
    assert effective(loaded.config)["links"]["b"]["session"]["sign_on"] == "wait"


def test_a_check_looks_at_what_the_file_names(file, tmp_path):
    spec, key = tmp_path / "gone.json", tmp_path / "pan.key"
    path = file(
        f"[links.a]\naddress = 'h:1'\nspec = '{spec}'\n"
        "[links.b]\naddress = 'h:2'\nspec = 'klingon'\n[links.c]\naddress = 'h:3'\n"
        f"[keys]\npan_key_file = '{key}'\nwrapping_key_file = '{key}'\n"
    )
    with pytest.raises(ConfigError) as caught:
        check(path, {})
    names = [problem.partition(":")[0] for problem in caught.value.problems]
    assert names == [
        *("links.a.spec", "links.b.spec"),
        *("keys.wrapping_key_file", "keys.pan_key_file"),
    ]


def test_a_check_refuses_a_specification_without_network_messages(file, tmp_path):
    spec = tmp_path / "small.json"
    spec.write_text(
        '{"name": "small", "mti": "ascii", "bitmap": "binary", "prefix_encoding":'
        ' "ascii", "encodings": {"n": "ascii"}, "fields": {"11": {"name": "STAN",'
        ' "content": "n", "length": 6}}}'
    )
    with pytest.raises(
        ConfigError, match=r"links\.a\.spec: spec small: expected field"
    ):
        check(file(f"[links.a]\nspec = '{spec}'\n"), {})


HOSTS = ("a.example:9092", "[::1]:9093")


@pytest.mark.parametrize(
    ("file", "environment", "flags"),
    [
        (list(HOSTS), {}, {}),
        (None, {"SWITCH_PUBLISH_KAFKA_BOOTSTRAP": ", ".join(HOSTS)}, {}),
        (None, {}, {"publish.kafka.bootstrap": ",".join(HOSTS)}),
    ],
)
def test_hosts_are_a_list_or_words_with_commas(tmp_path, file, environment, flags):
    path = tmp_path / "switch.toml"
    path.write_text(
        "" if file is None else f"[publish.kafka]\nbootstrap = {json.dumps(file)}\n"
    )
    loaded = load(path, environment, flags)
    assert loaded.config.publish.kafka.bootstrap == HOSTS
    again = tmp_path / "again.toml"
    again.write_text(to_toml(loaded.config))
    assert load(again).config == loaded.config


@pytest.mark.parametrize("host", ["nowhere", "a:b", ":1", "a:1:2", "::1:9092"])
def test_hosts_that_are_none_are_refused(host):
    with pytest.raises(ConfigError, match="expected a list of HOST:PORT"):
        load(flags={"publish.kafka.bootstrap": host})


def test_sasl_needs_a_user_and_a_password():
    flags = {
        "publish.kafka.bootstrap": HOSTS[0],
        "publish.kafka.security_protocol": "SASL_SSL",
        "publish.kafka.key_file": "key.pem",
    }
    assert [text.partition(":")[0] for text in problems_of(flags=flags)] == [
        "publish.kafka.user",
        "publish.kafka.password_file",
        "publish.kafka.certificate_file",
    ]
    more = {
        "publish.kafka.user": "switch",
        "publish.kafka.password_file": "password",
        "publish.kafka.certificate_file": "certificate.pem",
    }
    assert load(flags=flags | more).config.publish.kafka.user == "switch"


@pytest.mark.parametrize("name", ["", "no topic", "x" * 65, "ü", "a#b"])
def test_a_topic_of_nsq_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="expected up to 64 letters"):
        load(flags={"publish.nsq.topic": name})
    assert load(flags={"publish.nsq.topic": "a.b-c_1"}).config.publish.nsq.topic


CLUSTER = """
[cluster]
name = "bank"
node = "a"
pan_key_file = "pan.key"
[cluster.etcd]
endpoints = ["127.0.0.1:2379"]
[cluster.cassandra]
contact_points = ["127.0.0.1", "127.0.0.2:9042"]
replication = { dc1 = 1 }
[cluster.peer]
listen = "127.0.0.1:8581"
"""


def test_a_cluster_is_named_and_what_is_printed_of_it_loads_again(file):
    config = load(file(CLUSTER)).config
    assert config.cluster.cassandra.replication == {"dc1": 1}
    assert [str(a) for a in config.cluster.cassandra.addresses] == [
        "127.0.0.1:9042",
        "127.0.0.2:9042",
    ]
    assert load(file(to_toml(config))).config == config
    flags = {"cluster.cassandra.replication": "dc1=1"}
    assert load(None, {}, flags).config.cluster.cassandra.replication == {"dc1": 1}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('node = "a"', "", "cluster.node: expected the name of this node, got none"),
        ('"127.0.0.1:2379"', "", "cluster.etcd.endpoints: expected one at least"),
        ("dc1 = 1", "", "cluster.cassandra.replication: expected one data centre"),
        ("dc1 = 1", "dc1 = 0", "cluster.cassandra.replication: expected { DATACENTER"),
        (".2:9042", ".2:9043", "cluster.cassandra.contact_points: expected the same"),
        ("127.0.0.1:8581", "10.0.0.1:8581", "cluster.peer.cert: expected cert, key"),
        ("127.0.0.1:8581", "0.0.0.0:8581", "cluster.peer.listen: expected an address"),
        ("127.0.0.1:8581", "127.0.0.1:8580", "cluster.peer.listen: expected an addr"),
        ('name = "bank"', 'name = "a b"', "cluster.name: expected up to 64 letters"),
    ],
)
def test_what_a_cluster_cannot_do_without_is_told(file, old, new, problem):
    problems = problems_of(file(CLUSTER.replace(old, new)))
    assert any(each.startswith(problem) for each in problems), problems


def test_without_a_name_there_is_no_cluster_and_nothing_is_missing(file):
    assert load(file(CLUSTER.replace('name = "bank"', ""))).config.cluster.name == ""


def test_a_check_looks_at_the_files_of_a_cluster(file, tmp_path):
    key, cert = tmp_path / "pan.key", tmp_path / "none.pem"
    text = CLUSTER.replace('"pan.key"', json.dumps(str(key)))
    # It is made later.
    assert check(file(text), {}).cluster.name == "bank"
    key.write_text("no key")
    key.chmod(0o600)
    names = "".join(
        f"{name} = {json.dumps(str(cert))}\n" for name in ("cert", "key", "ca")
    )
    with pytest.raises(ConfigError) as caught:
        check(file(text + names), {})
    assert [each.partition(":")[0] for each in caught.value.problems] == [
        "cluster.pan_key_file",
        "cluster.peer",
    ]
