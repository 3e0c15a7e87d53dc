"""Keyspaces under which two quorums need not meet are refused, and why is said."""

from __future__ import annotations

import pytest

from switch.journal.cassandra import schema
from switch.journal.errors import JournalError, JournalMismatch, JournalVersion

NETWORK = f"{schema.STRATEGY}NetworkTopologyStrategy"
SIMPLE = f"{schema.STRATEGY}SimpleStrategy"


def check(replication, datacenters=("dc1",)):
    schema.check_replication("bank", replication, datacenters, "dc1")


@pytest.mark.parametrize(
    ("replication", "datacenters"),
    [
        ({"class": NETWORK, "dc1": "3"}, ["dc1"]),
        ({"class": NETWORK, "dc1": "1"}, ["dc1"]),
        ({"class": NETWORK, "dc1": "5", "dc2": "0"}, ["dc1", "dc2"]),
        ({"class": NETWORK, "dc1": "3"}, ["dc1", "dc2"]),
        ({"class": SIMPLE, "replication_factor": "3"}, ["dc1"]),
    ],
)
def test_quorums_of_one_data_centre_meet(replication, datacenters):
    check(replication, datacenters)


@pytest.mark.parametrize(
    ("replication", "datacenters", "why"),
    [
        ({"class": NETWORK, "dc1": "3", "dc2": "3"}, ["dc1", "dc2"], "does not meet"),
        ({"class": NETWORK, "dc2": "3"}, ["dc1", "dc2"], "does not meet"),
        ({"class": NETWORK, "dc1": "0"}, ["dc1"], "does not meet"),
        ({"class": NETWORK, "dc1": "3/1"}, ["dc1"], "transient"),
        (
            {"class": SIMPLE, "replication_factor": "3"},
            ["dc1", "dc2"],
            "without regard",
        ),
        ({"class": SIMPLE}, ["dc1"], "or none"),
        ({"class": f"{schema.STRATEGY}LocalStrategy"}, ["dc1"], "how many copies"),
        ({}, ["dc1"], "how many copies"),
    ],
)
def test_other_quorums_need_not(replication, datacenters, why):
    with pytest.raises(JournalMismatch, match=why):
        check(replication, datacenters)


def test_writes_that_are_not_durable_are_refused():
    schema.check_durable("bank", True)
    with pytest.raises(JournalMismatch, match="durable_writes"):
        schema.check_durable("bank", False)


@pytest.mark.parametrize("name", ["", "Bank", "b;x", "1b", "b-c", "bänk"])
def test_a_name_goes_into_statements_as_it_is(name):
    schema.check_name("bank_1")
    with pytest.raises(JournalError, match="name of a keyspace"):
        schema.check_name(name)


def test_from_nothing_and_from_the_newest():
    assert schema.migrations_from(0)
    assert schema.migrations_from(schema.SCHEMA_VERSION) == []
    with pytest.raises(JournalVersion, match="newer version"):
        schema.migrations_from(schema.SCHEMA_VERSION + 1)
