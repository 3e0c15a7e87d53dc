"""Files that a node is known by: what cannot be used is named, and nothing is shown."""

from __future__ import annotations

import pytest

from switch.cluster import access
from switch.cluster.access import AccessError
from switch.cluster.settings import CassandraSettings, EtcdSettings
from switch.cluster_store import cassandra_settings, etcd_settings
from switch.config import ConfigError, load
from tests.servers.certificates import Authority

SECRET = "as-long-as-it-is-secret"


@pytest.fixture
def password(tmp_path):
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path):
    authority = Authority(tmp_path)
    pem = str(authority.issue("node"))
    return {"ca": str(authority.ca), "cert": pem, "key": pem}


def test_nothing_given_is_nobody_without_tls():
    found = access.read("cluster.etcd", EtcdSettings())
    assert (found.user, found.password, found.ca) == (None, None, None)


def test_all_of_it_is_read_and_none_of_it_shown(password, files):
    settings = CassandraSettings(user="switch", password_file=password, **files)
    found = access.read("cluster.cassandra", settings)
    assert (found.user, found.password) == ("switch", SECRET)
    assert b"PRIVATE KEY" in (found.key or b"")
    assert b"CERTIFICATE" in (found.cert or b"")
    assert b"CERTIFICATE" in (found.ca or b"")
    assert SECRET not in repr(found)
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"x" * 2000])
def test_a_password_is_one_line(tmp_path, content):
    path = tmp_path / "password"
    path.write_bytes(content)
    settings = EtcdSettings(user="a", password_file=str(path))
    with pytest.raises(AccessError, match=r"^cluster.etcd.password_file: .*one line"):
        access.read("cluster.etcd", settings)


@pytest.mark.parametrize(
    ("name", "content", "path"),
    [
        ("password_file", None, "password_file: .*no such file"),
        ("password_file", b"\xff\xfe", "password_file: .*expected UTF-8"),
        ("ca", None, "ca: expected PEM"),
        ("ca", b"no certificate", "ca: expected PEM"),
        ("cert", b"no certificate", "cert: expected PEM"),
        ("key", b"no key", "cert: expected PEM"),
        ("key", None, "cert: expected PEM"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path, password, files, name, content, path
):
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    files |= {"user": "a", "password_file": password, name: str(bad)}
    with pytest.raises(AccessError, match=f"^cluster.etcd.{path}") as caught:
        access.read("cluster.etcd", EtcdSettings(**files))
    assert SECRET not in str(caught.value)


def config_of(password, files, **more):
    flags = {
        "cluster.name": "bank", "cluster.node": "a", "cluster.pan_key_file": "pan.key",
        "cluster.etcd.endpoints": "127.0.0.1:2379",
        "cluster.cassandra.contact_points": "127.0.0.1",
    }  # fmt: skip
    for section in ("etcd", "cassandra"):
        for name, value in {"user": "u", "password_file": password, **files}.items():
            flags[f"cluster.{section}.{name}"] = value
    return load(None, {}, flags | more).config


def _settings(config):
    cluster = config.cluster
    return cassandra_settings(cluster.cassandra), etcd_settings(cluster.etcd)


def test_both_are_asked_with_what_was_read(password, files):
    of_cassandra, of_etcd = _settings(config_of(password, files))
    options = of_cassandra.options()
    assert (options["username"], options["password"]) == ("u", SECRET)
    assert options["ssl_enabled"] is True
    assert options["ssl_verify_flags"].value == 3
    assert "BEGIN CERTIFICATE" in options["ssl_trusted_cert"]
    assert "PRIVATE KEY" in options["ssl_private_key"]
    assert (of_etcd.user, of_etcd.password) == ("u", SECRET)
    assert of_etcd.tls is not None
    assert of_etcd.tls.server_name is None
    shown = repr(of_etcd) + repr(of_etcd.tls) + repr(of_cassandra.tls)
    assert SECRET not in shown
    assert "PRIVATE" not in shown
    flags = {
        "cluster.etcd.server_name": "etcd.bank",
        "cluster.cassandra.verify_host": "false",
    }
    of_cassandra, of_etcd = _settings(config_of(password, files, **flags))
    assert of_cassandra.options()["ssl_verify_flags"].value == 1
    assert of_etcd.tls is not None
    assert of_etcd.tls.server_name == "etcd.bank"


def test_without_them_neither_is_asked_so():
    of_cassandra, of_etcd = _settings(config_of("", {}, **{
        f"cluster.{section}.user": "" for section in ("etcd", "cassandra")
    }))  # fmt: skip
    options = of_cassandra.options()
    assert "ssl_enabled" not in options
    assert options["username"] is None
    assert of_etcd.tls is None


@pytest.mark.parametrize("section", ["etcd", "cassandra"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["user"], "password_file"),
        (["password_file"], "user"),
        (["ca", "cert"], "key"),
        (["ca", "key"], "cert"),
        (["cert", "key"], "ca"),
    ],
)
def test_half_of_it_is_refused(section, given, missing):
    flags = {f"cluster.{section}.{name}": "x" for name in given}
    flags |= {
        "cluster.name": "bank", "cluster.node": "a", "cluster.pan_key_file": "pan.key",
        "cluster.etcd.endpoints": "127.0.0.1:2379",
        "cluster.cassandra.contact_points": "127.0.0.1",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags)
    assert [each.partition(":")[0] for each in caught.value.problems] == [
        f"cluster.{section}.{missing}"
    ]
