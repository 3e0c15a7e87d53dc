"""Operations on a node of a cluster: each reaches the shard that it is about, as bytes,
and does there what it does on a switch alone."""

from __future__ import annotations

import asyncio

import pytest

from switch.admin import types
from switch.admin.calls import AccountToOpen, CardToIssue, pack_call, read_result
from switch.admin.cluster import ClusterDesk, NoSearch
from switch.admin.errors import AdminError
from switch.admin.shards import ShardDesk
from switch.ledger import shard_of_account
from switch.shard._directory import CardDirectory
from switch.shard.errors import Elsewhere
from tests.unit.link.in_memory import KEYS
from tests.unit.shard.node import Node, new_journal

WHO, WHY = "maria", "customer called"
PAN = "9999990000000014"
EURO = 978


class Cards:
    """The table that all nodes see."""

    def __init__(self):
        self.rows = {}
        self.claims = 0

    async def claim_card(self, pan_hash, shard, account):
        self.claims += 1
        await asyncio.sleep(0)
        return self.rows.setdefault(pan_hash, (shard, account)) == (shard, account)

    async def shard_of(self, pan_hash):
        row = self.rows.get(pan_hash)
        return None if row is None else row[0]


class Served:
    """All shards at one node, asked through its calls."""

    def __init__(self):
        self.node = Node(
            new_journal(),
            submit=self._submit,
            schedule=lambda call: asyncio.get_running_loop().call_soon(call),
        )
        self.cards = Cards()
        self.directory = CardDirectory(self.node.states)
        self.shards = ShardDesk(
            self.node.group, self.directory, KEYS, lambda: self.node.now, self.cards
        )
        self.count = self.node.group.shard_count
        self.desk = ClusterDesk(self, self.cards, KEYS, self.count)
        self.asked = []

    def _submit(self, at, records):
        self.node.submitted.append((at, records))
        asyncio.get_running_loop().call_soon(self.node.write)

    async def call(self, shard, body, *, may_repeat):
        self.asked.append((shard, may_repeat))
        return await self.shards.answer(shard, body)

    def shard(self, account):
        return shard_of_account(account.encode(), self.count)

    async def open(self, account, key=None):
        body = types.OpenAccount(account, "EUR", WHY, 1000, 0)
        return await self.desk.open_account(WHO, body, key)

    async def bring(self, what, shard, rows, skip=False):
        body = pack_call(f"import_{what}", (rows, skip, "maria", "merger"))
        answer = await self.call(shard, body, may_repeat=False)
        return read_result(f"import_{what}", answer)


def run(scenario):
    async def main():
        await scenario(Served())

    asyncio.run(main())


def issue(account):
    return types.IssueCard(PAN, account, "4912", WHY)


def card_row(pan, account):
    ((pan_hash, seal),) = KEYS.seal_many([pan.encode()])
    return CardToIssue(pan_hash, seal, pan[-4:], account, 4912, "active")


def test_each_goes_to_the_shard_of_its_account_or_card():
    async def scenario(at):
        opened = await at.open("one")
        assert await at.desk.account("one") == opened
        card = await at.desk.issue_card(WHO, issue("one"))
        assert await at.desk.card(card.token) == card
        change = types.ChangeCard(WHY, "lost")
        assert (await at.desk.change_card(WHO, card.token, change)).status == "lost"
        adjust = types.AdjustBalance(-100, WHY)
        assert (await at.desk.adjust(WHO, "one", adjust)).balance == 900
        limit = types.ChangeAccount(WHY, credit_limit=5)
        assert (await at.desk.change_account(WHO, "one", limit)).credit_limit == 5
        assert {shard for shard, _ in at.asked} == {at.shard("one")}

    run(scenario)


def test_what_is_refused_there_is_refused_here_with_the_same_status():
    async def scenario(at):
        await at.open("one")
        for status, work in (
            (404, at.desk.account("nobody")),
            (404, at.desk.account("ä")),
            (409, at.open("one")),
            (404, at.desk.card("00" * 16)),
            (404, at.desk.issue_card(WHO, issue("nobody"))),
        ):
            with pytest.raises(AdminError) as caught:
                await work
            assert caught.value.status == status
        # Nobody claimed a card for an account that is not there.
        assert at.cards.claims == 0

    run(scenario)


def test_what_may_be_done_once_only_is_asked_for_once_unless_it_has_a_key():
    async def scenario(at):
        await at.open("one")
        await at.open("two", "key")
        await at.open("two", "key")
        await at.desk.account("one")
        assert [may_repeat for _, may_repeat in at.asked] == [False, True, True, True]

    run(scenario)


def test_a_card_that_another_account_has_claimed_is_no_new_one():
    async def scenario(at):
        await at.open("one")
        before = at.directory.count
        at.cards.rows[KEYS.pan_hash(PAN.encode())] = (0, "another")
        with pytest.raises(AdminError) as caught:
            await at.desk.issue_card(WHO, issue("one"))
        assert caught.value.status == 409
        shard = at.shard("one")
        answer = await at.bring("cards", shard, [card_row(PAN, "one")])
        assert [index for index, _ in answer.problems] == [0]
        assert at.directory.count == before

    run(scenario)


def test_no_card_number_is_in_a_call():
    async def scenario(at):
        await at.open("one")
        bodies = []
        answer = at.shards.answer

        async def listens(shard, body):
            bodies.append(body)
            return await answer(shard, body)

        at.shards.answer = listens
        await at.desk.issue_card(WHO, issue("one"))
        assert bodies
        assert not any(PAN.encode() in body for body in bodies)

    run(scenario)


def test_a_shard_that_is_elsewhere_is_said_to_be():
    async def scenario(at):
        shard = at.shard("one")
        at.node.group.close_shard(shard)
        with pytest.raises(Elsewhere):
            await at.open("one")

    run(scenario)


def test_a_piece_of_an_import_is_done_whole_or_not_at_all():
    async def scenario(at):
        shard = at.shard("one")
        names = ["one", *[f"a{n}" for n in range(200) if at.shard(f"a{n}") == shard]]
        rows = [AccountToOpen(name, EURO, 5, 0) for name in names[:3]]
        assert (await at.bring("accounts", shard, rows)).imported == 3
        more = [AccountToOpen(name, EURO, 5, 0) for name in names[2:4]]
        refused = await at.bring("accounts", shard, more)
        assert (refused.imported, [i for i, _ in refused.problems]) == (0, [0])
        done = await at.bring("accounts", shard, more, skip=True)
        assert (done.imported, done.existing) == (1, 1)
        other = [AccountToOpen(names[0], 826, 5, 0)]
        assert (await at.bring("accounts", shard, other, skip=True)).problems
        cards = [card_row(PAN, "one")]
        assert (await at.bring("cards", shard, cards)).imported == 1
        assert (await at.bring("cards", shard, cards)).problems
        assert (await at.bring("cards", shard, cards, skip=True)).existing == 1
        assert await at.cards.shard_of(KEYS.pan_hash(PAN.encode())) == shard

    run(scenario)


@pytest.mark.parametrize("body", [b"", b"\x01", pack_call("nothing", ())])
def test_a_call_that_is_none_is_refused(body):
    async def scenario(at):
        with pytest.raises(AdminError, match="a call that this node knows"):
            read_result("account", await at.shards.answer(0, body))

    run(scenario)


# -- lists


def test_without_a_read_model_nothing_is_listed():
    search = NoSearch()

    async def test():
        for look in (
            search.accounts(types.AccountsQuery()),
            search.cards(types.CardsQuery()),
            search.transactions(types.TransactionsQuery()),
        ):
            with pytest.raises(AdminError, match=r"cluster\.read_model") as refused:
                await look
            assert refused.value.status == 503

    asyncio.run(test())
