"""Imports into running shards: all or nothing, in slices, and in one commit."""

from __future__ import annotations

import asyncio

import pytest

from switch.admin.errors import AdminError
from switch.admin.imports import (
    IMPORT_BYTES_MAX,
    IMPORT_ROWS_MAX,
    SLICE_ROWS,
    Importer,
)
from switch.ledger import ChangeRefused, open_account, shard_of_account
from tests.unit.admin.served import entries, run
from tests.unit.link.in_memory import KEYS, PANS

ACCOUNTS = "account,currency,balance,credit_limit\n"
CARDS = "pan,account,expiry,status\n"
TO_ACCOUNTS = "/api/imports/accounts?reason=migration"
TO_CARDS = "/api/imports/cards?reason=migration"


def account_rows(count):
    return "".join(f"n{number},EUR,{number},0\n" for number in range(count))


def pan_of(number):
    return f"9999991{number:09d}"


def test_all_rows_are_in_one_commit_with_who_and_why(tmp_path):
    count = 3 * SLICE_ROWS + 7

    async def script(client):
        answer = await client.ask("POST", TO_ACCOUNTS, ACCOUNTS + account_rows(count))
        account = await client.ask("GET", f"/api/accounts/n{count - 1}")
        return answer, account, client.served.node.journal.head, [
            *entries(client.served)
        ]  # fmt: skip

    answer, account, head, kept = run(tmp_path, script)
    assert (answer.status, answer.content) == (201, {"imported": count})
    assert account.content["balance"] == count - 1
    assert head == 2  # the first one is the bank
    assert {(e.name, e.operator, e.reason) for e in kept} == {
        ("account_opened", "admin", "migration")
    }
    assert len(kept) == count


def test_cards_are_found_from_then_on(tmp_path):
    count = 2 * SLICE_ROWS

    async def script(client):
        rows = "".join(f"{pan_of(n)},euro,3012,active\n" for n in range(count))
        answer = await client.ask("POST", TO_CARDS, CARDS + rows)
        directory, states = client.served.directory, client.served.node.states
        return answer, [
            states[directory.shard(pan_hash)].card(pan_hash)
            for pan_hash in (KEYS.pan_hash(pan_of(n).encode()) for n in range(count))
        ]

    answer, cards = run(tmp_path, script)
    assert answer.content == {"imported": count}
    assert all(card.account == "euro" for card in cards)


BAD = [
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1,0\nb,QQQ,1,0\nc,EUR,x,0\n", [3, 4]),
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1,0\na,EUR,1,0\n", [3]),
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1,0\nmain,EUR,1,0\n", [3]),
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1\n", [2]),
    (TO_ACCOUNTS, CARDS, [1]),
    (TO_ACCOUNTS, "", [1]),
    (TO_CARDS, CARDS + f"{pan_of(1)},main,3012,active\n{pan_of(1)},main,3012,lost\n",
     [3]),
    (TO_CARDS, CARDS + f"{PANS['lost']},main,3012,active\n" * 2
     + f"{PANS['lost']},main,3013,active\n{pan_of(1)},main\n", [2, 3, 4, 5]),
    (TO_CARDS, CARDS + f"{PANS['lost']},main,3012,active\n", [2]),
    (TO_CARDS, CARDS + f"{pan_of(1)},nobody,3012,active\n", [2]),
    (TO_CARDS, CARDS + f"main,{pan_of(1)},3012,active\n", [2]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "lines"), BAD)
def test_bad_rows_are_told_by_line_and_nothing_is_kept(tmp_path, path, body, lines):
    async def script(client):
        answer = await client.ask("POST", path, body)
        return answer, client.served.node.journal.head, client.served.directory.count

    answer, head, cards = run(tmp_path, script)
    assert answer.status == 422
    assert "nothing imported" in answer.message
    problems = answer.content["error"]["problems"]
    assert [int(each.split(":")[0].removeprefix("line ")) for each in problems] == lines
    assert answer.content["error"]["count"] == len(lines)
    assert "999999" not in str(answer.content)
    assert (head, cards) == (1, 9)


def test_one_twice_in_the_file_is_told_with_the_line_of_the_first(tmp_path):
    """Also when they are in different slices."""
    rows = account_rows(2 * SLICE_ROWS) + "n0,EUR,1,0\n"
    pans = "".join(f"{pan_of(n)},main,3012,active\n" for n in (1, 2, 1))

    async def script(client):
        return (
            await client.ask("POST", TO_ACCOUNTS, ACCOUNTS + rows),
            await client.ask("POST", TO_CARDS, CARDS + pans),
        )

    told = [answer.content["error"]["problems"] for answer in run(tmp_path, script)]
    same = "expected each once, got the same as line 2"
    assert told == [
        [f"line {2 * SLICE_ROWS + 2}: account: {same}"],
        [f"line 4: pan: {same}"],
    ]


def test_it_is_bounded(tmp_path):
    async def script(client):
        rows = await client.ask(
            "POST", TO_ACCOUNTS, ACCOUNTS + account_rows(IMPORT_ROWS_MAX + 1)
        )
        size = await client.ask("POST", TO_ACCOUNTS, " " * (IMPORT_BYTES_MAX + 1))
        kind = await client.ask("POST", TO_ACCOUNTS, {"account": "x"})
        bare = await client.ask("POST", "/api/imports/accounts", ACCOUNTS)
        return (rows, size, kind, bare), list(entries(client.served))

    (rows, size, kind, bare), kept = run(tmp_path, script)
    assert (rows.status, size.status, kind.status, bare.status) == (413, 413, 415, 400)
    assert "20,000 rows" in rows.message
    assert kept == []


def importer_of(served):
    node = served.node
    return Importer(node.group, served.directory, KEYS, lambda: node.now)


def test_a_second_import_at_once_is_refused(tmp_path):
    async def script(client):
        importer = importer_of(client.served)
        data = (ACCOUNTS + account_rows(3 * SLICE_ROWS)).encode()
        loading = asyncio.create_task(importer.import_accounts("a", data, "b"))
        await asyncio.sleep(0)
        with pytest.raises(AdminError, match="one import at a time") as refused:
            await importer.import_cards("a", CARDS.encode(), "b")
        assert refused.value.status == 503
        return await loading

    assert run(tmp_path, script) == 3 * SLICE_ROWS


def test_messages_are_decided_between_all_slices(tmp_path):
    slices = 20

    async def script(client):
        data = (ACCOUNTS + account_rows(slices * SLICE_ROWS)).encode()
        importer = importer_of(client.served)
        loading = asyncio.create_task(importer.import_accounts("a", data, "b"))
        turns = 0
        while not client.served.submitted.is_set():
            turns += 1
            await asyncio.sleep(0)
        await loading
        return turns

    assert run(tmp_path, script) >= slices


def test_a_name_taken_while_it_was_prepared_ends_it_without_a_trace(tmp_path):
    async def script(client):
        served = client.served
        node = served.node
        data = (ACCOUNTS + account_rows(3 * SLICE_ROWS)).encode()
        loading = asyncio.create_task(
            importer_of(served).import_accounts("a", data, "b")
        )
        await asyncio.sleep(0)
        # The first slice, with n5, is prepared by now.
        state = node.states[shard_of_account(b"n5", len(node.states))]
        taken = open_account(
            state, "n5", 978, 1, 0, operator="m", reason="first", now=node.now
        )
        node.group.administer([(state.shard, taken)], node.now)
        with pytest.raises(ChangeRefused, match="got one that is open") as refused:
            await loading
        assert refused.value.why == "conflict"
        await client.ask("GET", "/api/accounts/n5")
        return list(entries(served))

    assert [entry.account for entry in run(tmp_path, script)] == ["n5"]
