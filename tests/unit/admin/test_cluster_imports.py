"""Files over HTTP into a cluster: checked to the end, then on their way in pieces."""

from __future__ import annotations

import asyncio

import pytest

from switch.admin.cluster_imports import ClusterImporter
from switch.admin.errors import AdminError, ImportBad
from switch.admin.types import ImportQuery
from switch.cluster_pieces import Pieces
from switch.ledger import shard_of_account
from tests.unit.admin.test_cluster import WHO, WHY, Served
from tests.unit.link.in_memory import KEYS

ACCOUNTS = "account,currency,balance,credit_limit\n"
CARDS = "pan,account,expiry,status\n"


class Lab(Served):
    def __init__(self, folder):
        super().__init__()
        self.importer = ClusterImporter(
            KEYS, self.count, lambda: self.node.now, folder, self.pieces
        )

    def pieces(self, wanted):
        return Pieces(
            self.call,
            wanted.what,
            skip_existing=wanted.skip_existing,
            again="existing ones skipped",
            who=wanted.told["operator"],
            reason=wanted.told["reason"],
        )

    async def bring_file(self, what, text, existing="refuse"):
        async def body():
            data = text.encode()
            for at in range(0, len(data), 100):
                yield data[at : at + 100]

        query = ImportQuery(WHY, existing)
        return await self.importer.run(what, WHO, query, body())


def run(folder, scenario):
    async def main():
        await scenario(Lab(folder))

    asyncio.run(main())


def accounts(count):
    return ACCOUNTS + "".join(f"A{index},EUR,{index},5\n" for index in range(count))


def pan_of(index):
    return f"9999991{index:09d}"


def cards(count):
    return CARDS + "".join(
        f"{pan_of(index)},A{index},4912,active\n" for index in range(count)
    )


def test_each_row_is_brought_to_its_shard(tmp_path):
    async def scenario(at):
        done = await at.bring_file("accounts", accounts(300))
        assert (done.imported, done.existing) == (300, 0)
        assert {shard for shard, _ in at.asked} == {
            shard_of_account(f"A{index}".encode(), at.count) for index in range(300)
        }
        assert (await at.desk.account("A299")).balance == 299
        done = await at.bring_file("cards", cards(300))
        assert (done.imported, done.existing) == (300, 0)
        assert at.cards.claims == 300
        status = at.importer.status
        assert (status.state, status.imported, status.operator) == ("done", 300, WHO)

    run(tmp_path, scenario)


def test_a_row_that_is_bad_leaves_everything_as_it_was(tmp_path):
    async def scenario(at):
        for text, said in (
            (accounts(50) + "B,EUR,much,5\n", "line 52: balance"),
            (accounts(50) + "A7,EUR,1,5\n", "line 52: account"),
        ):
            with pytest.raises(ImportBad) as refused:
                await at.bring_file("accounts", text)
            assert refused.value.problems[0].startswith(said)
        twice = cards(3) + cards(1).removeprefix(CARDS)
        with pytest.raises(ImportBad, match="1 bad row"):
            await at.bring_file("cards", twice)
        assert at.asked == []
        assert at.importer.status.state == "refused"

    run(tmp_path, scenario)


def test_what_is_there_is_told_or_passed_over(tmp_path):
    async def scenario(at):
        await at.bring_file("accounts", accounts(10))
        with pytest.raises(AdminError, match="existing ones skipped") as refused:
            await at.bring_file("accounts", accounts(12))
        assert refused.value.status == 409
        assert at.importer.status.state == "failed"
        done = await at.bring_file("accounts", accounts(14), "skip")
        assert done.imported + done.existing == 14
        assert (await at.desk.account("A13")).balance == 13

    run(tmp_path, scenario)


def test_who_did_it_and_why_is_in_the_entries(tmp_path):
    async def scenario(at):
        await at.bring_file("accounts", accounts(1))
        payloads = [
            record.payload
            for commit in at.node.journal.read(0)
            for record in commit.records
        ]
        assert any(WHO.encode() in each and WHY.encode() in each for each in payloads)

    run(tmp_path, scenario)
