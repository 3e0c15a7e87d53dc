"""Searches: what each condition finds, page by page, and what ends one."""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import Any

import apsw
import pytest

from switch.admin import search as search_module
from switch.admin.errors import AdminError
from switch.admin.search import Search
from switch.admin.types import Transaction, TransactionsQuery
from switch.journal.memory import MemoryJournal
from switch.projection.readmodel import ReadModel, drop
from tests.unit.admin.served import run
from tests.unit.link.in_memory import KEYS
from tests.unit.small_bank import (
    JOINT,
    MAIN,
    MAIN_PAN,
    OTHER_PAN,
    UNKNOWN_PAN,
    ask_everything,
    opened_bank,
)


def token(pan):
    return KEYS.pan_hash(pan.encode()).hex()


@pytest.fixture
def model(tmp_path):
    """A read model with everything of a small bank, and the journal behind it."""
    bank = opened_bank()
    ask_everything(bank)
    bank.ask(account=JOINT, pan=OTHER_PAN, amount=1_000, stan="000777", rrn="JOINTRRN")
    journal = MemoryJournal(len(bank.states))
    bank.commit(journal)
    path = tmp_path / "readmodel.db"
    model = ReadModel(path, journal_identity=b"x", journal_head=journal.head)
    model.take(list(journal.read(0)))
    while model.tend():
        pass
    yield path, bank
    model.close()


def found(path, **query):
    """Every page of two rows, one after the other."""

    async def pages():
        search = Search(path)
        rows: list[Transaction] = []
        cursor: dict[str, Any] | None = {}
        try:
            while cursor is not None:
                page = await search.transactions(
                    TransactionsQuery(limit=2, **query, **cursor)
                )
                assert len(page.transactions) == 2 or page.cursor is None
                rows += page.transactions
                cursor = None if page.cursor is None else {"cursor": page.cursor}
        finally:
            search.close()
        return rows

    return asyncio.run(pages())


def test_all_are_found_newest_first_each_once(model):
    path, bank = model
    rows = found(path)
    kinds = {"account_opened", "card_issued", "limit_changed"}
    kinds |= {"card_status_changed", "card_expiry_changed", "account_status_changed"}
    expected = [
        (entry.at, entry.sequence, shard)
        for shard, entry in bank.entries
        if entry.name not in kinds
    ]
    assert [row.id for row in rows] == [
        f"{shard}-{sequence}" for _, sequence, shard in sorted(expected, reverse=True)
    ]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"account": MAIN}, lambda row: row.account == MAIN),
        ({"account": "nobody"}, lambda row: False),
        ({"card": token(MAIN_PAN)}, lambda row: row.card_token == token(MAIN_PAN)),
        ({"card": token(UNKNOWN_PAN)},
         lambda row: row.card_token == token(UNKNOWN_PAN)),
        ({"card": "0" * 32}, lambda row: False),
        ({"rrn": "JOINTRRN"}, lambda row: row.rrn == "JOINTRRN"),
        ({"stan": "000777"}, lambda row: row.stan == "000777"),
        ({"amount": 1_000}, lambda row: row.amount == 1_000),
        ({"amount": 1_000, "account": JOINT},
         lambda row: row.amount == 1_000 and row.account == JOINT),
    ],
)  # fmt: skip
def test_a_condition_finds_what_it_says(model, query, matches):
    path, _ = model
    everything = found(path)
    rows = found(path, **query)
    expected = [
        row for row in everything if matches(row) or (
            "amount" in query
            and row.transaction_amount == query["amount"]
            and query.get("account") in (None, row.account)
        )
    ]  # fmt: skip
    assert rows == expected
    assert bool(rows) == ("nobody" not in query.values() and "0" * 32 not in
                          query.values())  # fmt: skip


def test_times_are_from_and_up_to(model):
    path, _ = model
    rows = found(path)
    moments = sorted({row.at for row in rows})
    assert len(moments) > 1
    first, last = map(datetime.datetime.fromisoformat, (moments[0], moments[-1]))
    assert {row.at for row in found(path, since=last)} == {moments[-1]}
    assert {row.at for row in found(path, until=last)} == set(moments[:-1])
    assert found(path, since=first, until=first) == []


def test_a_search_that_takes_too_long_is_broken_off(model, monkeypatch):
    path, _ = model
    monkeypatch.setattr(search_module, "SECONDS_MAX", -1.0)
    monkeypatch.setattr(search_module, "_STEPS", 1)
    with pytest.raises(AdminError, match="narrow it down") as error:
        found(path)
    assert error.value.status == 503


def test_a_read_model_that_is_made_again_is_read_again(model):
    path, _ = model

    async def both():
        search = Search(path)
        try:
            before = await search.transactions(TransactionsQuery())
            drop(path)
            with pytest.raises(AdminError) as missing:
                await search.transactions(TransactionsQuery())
            ReadModel(path, journal_identity=b"y", journal_head=0).close()
            return before, missing.value, await search.transactions(TransactionsQuery())
        finally:
            search.close()

    before, missing, after = asyncio.run(both())
    assert before.transactions
    assert missing.status == 503
    assert (after.transactions, after.as_of, after.cursor) == ([], 0, None)


def test_a_search_changes_nothing(model):
    path, _ = model
    search = Search(path)
    try:
        search._deadline = time.monotonic() + 60
        with pytest.raises(apsw.ReadOnlyError):
            search._connected().execute("DELETE FROM transactions")
    finally:
        search._disconnect()
        search.close()


def test_too_many_searches_at_once_are_refused(model):
    path, _ = model

    async def crowd():
        search = Search(path)
        try:
            return await asyncio.gather(
                *(search.transactions(TransactionsQuery())
                  for _ in range(search_module.WAITING_MAX + 3)),
                return_exceptions=True,
            )  # fmt: skip
        finally:
            search.close()

    refused = [each for each in asyncio.run(crowd()) if isinstance(each, AdminError)]
    assert [error.status for error in refused] == [503] * 3


def test_accounts_and_cards_are_listed_by_page(tmp_path):
    async def script(client):
        names, path = [], "/api/accounts?limit=3"
        cursor = ""
        while cursor is not None:
            answer = await client.ask("GET", path + cursor, role="viewer")
            names += [each["account"] for each in answer.content["accounts"]]
            cursor = answer.content["cursor"] and f"&cursor={answer.content['cursor']}"
        cards = await client.ask("GET", "/api/cards?account=main", role="viewer")
        first = await client.ask("GET", "/api/cards?account=main&limit=1")
        rest = await client.ask(
            "GET", f"/api/cards?account=main&cursor={first.content['cursor']}"
        )
        return names, cards.content["cards"], [
            *first.content["cards"], *rest.content["cards"]
        ]  # fmt: skip

    names, cards, paged = run(tmp_path, script)
    assert names == sorted(["main", "other", "euro", "credit"])
    assert len(cards) == 6
    assert {card["account"] for card in cards} == {"main"}
    assert paged == cards
