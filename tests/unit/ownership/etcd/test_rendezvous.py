import pytest

from switch.ownership.rendezvous import wanted

NODES = ["north", "south", "east", "west"]
SHARDS = range(1024)


def test_it_is_what_every_version_computes():
    first = [wanted(shard, NODES) for shard in range(6)]
    assert first == ["east", "south", "north", "south", "west", "north"]


def test_nobody_is_wanted_where_nobody_is():
    assert wanted(0, []) is None


def test_the_order_of_names_is_of_no_matter():
    for shard in SHARDS:
        assert wanted(shard, NODES) == wanted(shard, reversed(NODES))


@pytest.mark.parametrize("gone", NODES)
def test_a_node_that_goes_leaves_all_others_what_they_have(gone):
    rest = [node for node in NODES if node != gone]
    for shard in SHARDS:
        before = wanted(shard, NODES)
        if before != gone:
            assert wanted(shard, rest) == before


@pytest.mark.parametrize("node", NODES)
def test_each_gets_about_its_part(node):
    count = sum(wanted(shard, NODES) == node for shard in SHARDS)
    assert 200 < count < 312
