"""Cassandra and etcd that let nobody in without a name, and speak TLS."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate

from tests.end_to_end.clustered import ClusterOfNodes
from tests.end_to_end.harness import wait_until
from tests.servers.cassandra import Cassandra
from tests.servers.certificates import Authority
from tests.servers.etcd import Etcd

# Whom Cassandra knows when it is new.
USER = PASSWORD = "cassandra"
STORE_PASSWORD = "of-the-store"


def store_of(pem: Path) -> str:
    """The certificate and its key, as Java reads them."""
    content = pem.read_bytes()
    key = load_pem_private_key(content, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    data = pkcs12.serialize_key_and_certificates(
        b"node",
        key,
        load_pem_x509_certificate(content),
        None,
        BestAvailableEncryption(STORE_PASSWORD.encode()),
    )
    path = pem.with_suffix(".p12")
    path.write_bytes(data)
    return str(path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def cassandra(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Cassandra]:
    """It takes those without TLS, too: whoever waits for it asks so."""
    server = Cassandra(
        tmp_path_factory.mktemp("cassandra"),
        settings={
            "authenticator": "PasswordAuthenticator",
            "authorizer": "CassandraAuthorizer",  # tidy: allow
            "client_encryption_options": {
                "enabled": True,
                "optional": True,
                "store_type": "PKCS12",
                "keystore": store_of(authority.issue("cassandra")),
                "keystore_password": STORE_PASSWORD,
            },
        },
    )
    with server:
        yield server


@pytest.fixture(scope="module")
def etcd(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Etcd]:
    pem = str(authority.issue("etcd"))
    options = [
        *("--cert-file", pem, "--key-file", pem, "--client-cert-auth"),
        *("--trusted-ca-file", str(authority.ca)),
    ]
    with Etcd(
        tmp_path_factory.mktemp("etcd"), scheme="https", options=options
    ) as server:
        yield server


@pytest.fixture
def cluster(
    tmp_path: Path, cassandra: Cassandra, etcd: Etcd
) -> Iterator[ClusterOfNodes]:
    with ClusterOfNodes(tmp_path, cassandra, etcd) as made:
        yield made


def test_with_a_name_and_certificates_it_gets_in_and_otherwise_is_told(
    cluster: ClusterOfNodes, authority: Authority, tmp_path: Path
):
    password, wrong = tmp_path / "password", tmp_path / "wrong"
    password.write_text(PASSWORD)
    wrong.write_text(PASSWORD + "-wrong")
    pem, stranger = authority.issue("client"), Authority(tmp_path, "stranger").ca
    of_etcd: dict[str, object] = {
        name: str(path)
        for name, path in {"ca": authority.ca, "cert": pem, "key": pem}.items()
    }
    of_cassandra: dict[str, object] = {
        "user": USER,
        "password_file": str(password),
        "ca": str(authority.ca),
        # Its certificate is of another address than it has here.
        "verify_host": False,
    }
    plain = cluster.config.read_text()

    def run(command: str, **others: dict[str, object]) -> tuple[int, str]:
        text = plain
        given = {"etcd": of_etcd, "cassandra": of_cassandra}
        for section, values in given.items():
            lines = [
                f"{name} = {json.dumps(value)}"
                for name, value in (values | others.get(section, {})).items()
            ]
            head = f"[cluster.{section}]\n"
            text = text.replace(head, head + "\n".join(lines) + "\n")
        cluster.config.write_text(text)
        done = cluster.run("cluster", command)
        assert PASSWORD + "-wrong" not in done.stderr
        return done.returncode, done.stderr

    # Cassandra makes its first user some seconds after it is there.
    wait_until(lambda: run("init")[0] == 0, "init")
    # All are there, and nobody owns anything.
    assert run("status")[0] == 1
    bad: dict[str, dict[str, dict[str, object]]] = {
        "cannot be reached": {"cassandra": {"verify_host": True}},
        "Cassandra": {"cassandra": {"ca": str(stranger)}},
        "does not take us": {"cassandra": {"password_file": str(wrong)}},
        "CERTIFICATE_VERIFY_FAILED": {"etcd": {"ca": str(stranger)}},
    }
    for what, others in bad.items():
        code, said = run("status", **others)
        assert code not in (0, 1)
        assert what in said
    # The doctor gets in everywhere, too; etcd tells the time by HTTP.
    assert run("status")[0] == 1
    told = json.loads(cluster.run("doctor", "--json").stdout)
    clocks = [
        (f["level"], f["got"])
        for f in told["findings"]
        if f["check"].startswith("etcd ") and f["check"].endswith(": clock")
    ]
    assert clocks == [("ok", "as ours")]
