"""How nodes greet each other, and whom they do not talk to."""

import msgspec
import pytest

from iso8583 import Codec, load_dialect, load_spec
from switch.peer.errors import PeerProtocolError
from switch.peer.hello import Identity, fingerprint, hello, read_hello

OURS = Identity("bank", "a", 64, "key")
THEIRS = Identity("bank", "b", 64, "key")


def language(name):
    codec = Codec(load_spec(name))
    return codec, load_dialect(name, codec.spec)


def test_a_greeting_is_read_as_it_was_said():
    said = read_hello(hello(THEIRS, {"main": "1", "visa": "2"}), OURS)
    assert said.identity == THEIRS
    assert [(link.name, link.fingerprint) for link in said.links] == [
        ("main", "1"),
        ("visa", "2"),
    ]
    assert said.at_ms is None


def test_it_may_tell_the_time_and_what_is_said_besides_is_passed_over():
    assert read_hello(hello(THEIRS, {}, 1_000), OURS).at_ms == 1_000
    said = msgspec.msgpack.decode(hello(THEIRS, {}, 1_000))
    del said["at_ms"]  # an older node
    said["of_later"] = "something"  # a newer one
    assert read_hello(msgspec.msgpack.encode(said), OURS).at_ms is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cluster": "other"}, "cluster of a node: expected bank, got other"),
        ({"shard_count": 32}, "shard_count of a node: expected 64, got 32"),
        ({"pan_key": "other"}, "pan_key of a node: expected key, got other"),
        ({"node": "a"}, "name of a node: expected another one, got a"),
    ],
)
def test_a_node_that_is_not_of_this_cluster_is_refused(change, expected):
    other = msgspec.structs.replace(THEIRS, **change)
    with pytest.raises(PeerProtocolError, match=expected):
        read_hello(hello(other, {}), OURS)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", hello(THEIRS, {})[:-1]])
def test_what_is_no_greeting_is_refused(body):
    with pytest.raises(PeerProtocolError, match="greeting of a node"):
        read_hello(body, OURS)


def test_another_version_is_refused():
    said = msgspec.msgpack.decode(hello(THEIRS, {}))
    said["version"] = 99
    with pytest.raises(
        PeerProtocolError, match="version of a node: expected 1, got 99"
    ):
        read_hello(msgspec.msgpack.encode(said), OURS)


def test_a_link_that_is_read_otherwise_has_another_fingerprint():
    codec, dialect = language("iso87-ascii")
    visa_codec, visa_dialect = language("visa-base1")
    prints = {
        fingerprint(codec, dialect, 0),
        fingerprint(codec, dialect, 1),
        fingerprint(visa_codec, visa_dialect, 0),
        fingerprint(codec, visa_dialect, 0),
    }
    assert len(prints) == 4
    again, dialect = language("iso87-ascii")
    assert fingerprint(again, dialect, 0) in prints
