"""Imports into running shards: checked to the end, written in pieces, answered when
durable."""

from __future__ import annotations

import asyncio

import pytest

from switch.admin import imports
from switch.admin.errors import AdminError, ImportBad
from switch.admin.imports import CHECK_ROWS, WRITE_ROWS, Importer
from switch.admin.spool import NAME
from switch.admin.types import ImportQuery
from switch.ledger import open_account, shard_of_account
from tests.unit.admin.served import entries, run
from tests.unit.link.in_memory import KEYS, PANS

ACCOUNTS = "account,currency,balance,credit_limit\n"
CARDS = "pan,account,expiry,status\n"
TO_ACCOUNTS = "/api/imports/accounts?reason=migration"
TO_CARDS = "/api/imports/cards?reason=migration"
SKIP = "&existing=skip"
QUERY = ImportQuery("migration")
# More than a piece of everything that is taken by the piece.
MANY = 3 * WRITE_ROWS + 7


def account_rows(count, start=0):
    numbers = range(start, start + count)
    return "".join(f"n{number},EUR,{number},0\n" for number in numbers)


def pan_of(number):
    return f"9999991{number:09d}"


def card_rows(count):
    return "".join(f"{pan_of(n)},euro,3012,active\n" for n in range(count))


def test_all_rows_are_there_with_who_and_why(tmp_path):
    async def script(client):
        before = await client.ask("GET", "/api/imports")
        answer = await client.ask("POST", TO_ACCOUNTS, ACCOUNTS + account_rows(MANY))
        account = await client.ask("GET", f"/api/accounts/n{MANY - 1}")
        after = await client.ask("GET", "/api/imports", role="viewer")
        return before, answer, account, after, [*entries(client.served)]

    before, answer, account, after, kept = run(tmp_path, script)
    assert before.content == {"last": None}
    assert (answer.status, answer.content) == (201, {"imported": MANY, "existing": 0})
    assert account.content["balance"] == MANY - 1
    assert {(e.name, e.operator, e.reason) for e in kept} == {
        ("account_opened", "admin", "migration")
    }
    # Each shard has its rows in the order of the file; the shards are apart.
    assert sorted(int(entry.account[1:]) for entry in kept) == list(range(MANY))
    last = after.content["last"]
    assert last.pop("started_at").endswith("Z")
    assert last == {
        "what": "accounts", "operator": "admin", "state": "done", "rows": MANY,
        "imported": MANY, "existing": 0, "problems": 0,
    }  # fmt: skip
    assert not (tmp_path / NAME).exists()


def test_cards_are_found_from_then_on(tmp_path):
    async def script(client):
        answer = await client.ask("POST", TO_CARDS, CARDS + card_rows(MANY))
        directory, states = client.served.directory, client.served.node.states
        return answer, [
            states[directory.shard(pan_hash)].card(pan_hash)
            for pan_hash in (KEYS.pan_hash(pan_of(n).encode()) for n in range(MANY))
        ]

    answer, cards = run(tmp_path, script)
    assert answer.content == {"imported": MANY, "existing": 0}
    assert all(card.account == "euro" for card in cards)


BAD = [
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1,0\nb,QQQ,1,0\nc,EUR,x,0\n", [3, 4]),
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1,0\na,EUR,1,0\n", [3]),
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1,0\nmain,EUR,1,0\n", [3]),
    (TO_ACCOUNTS, ACCOUNTS + "a,EUR,1\n", [2]),
    (TO_ACCOUNTS, ACCOUNTS + 'a,EUR,1,0\n"b,EUR,1,0\nc,EUR,1,0\n', [3]),
    (TO_ACCOUNTS, ACCOUNTS + account_rows(MANY) + account_rows(1), [MANY + 2]),
    (TO_ACCOUNTS, CARDS, [1]),
    (TO_ACCOUNTS, "", [1]),
    (TO_ACCOUNTS + SKIP, ACCOUNTS + "a,EUR,1,0\nmain,EUR,1,0\n", [3]),
    (TO_ACCOUNTS + SKIP, ACCOUNTS + "a,EUR,1,0\na,EUR,1,0\n", [3]),
    (TO_CARDS, CARDS + f"{pan_of(1)},main,3012,active\n{pan_of(1)},main,3012,lost\n",
     [3]),
    (TO_CARDS, CARDS + f"{PANS['lost']},main,3012,active\n" * 2
     + f"{PANS['lost']},main,3013,active\n{pan_of(1)},main\n", [2, 3, 4, 5]),
    (TO_CARDS, CARDS + f"{PANS['lost']},main,3012,active\n", [2]),
    (TO_CARDS, CARDS + f"{pan_of(1)},nobody,3012,active\n", [2]),
    (TO_CARDS, CARDS + f"main,{pan_of(1)},3012,active\n", [2]),
    (TO_CARDS + SKIP, CARDS + f"{PANS['lost']},euro,3012,active\n", [2]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "lines"), BAD)
def test_bad_rows_are_told_by_line_and_nothing_is_kept(tmp_path, path, body, lines):
    async def script(client):
        answer = await client.ask("POST", path, body)
        status = await client.ask("GET", "/api/imports")
        node = client.served.node
        return answer, status, node.journal.head, client.served.directory.count

    answer, status, head, cards = run(tmp_path, script)
    assert answer.status == 422
    assert "nothing imported" in answer.message
    problems = answer.content["error"]["problems"]
    assert [int(each.split(":")[0].removeprefix("line ")) for each in problems] == lines
    assert answer.content["error"]["count"] == len(lines)
    assert "999999" not in str(answer.content)
    assert (head, cards) == (1, 9)
    assert status.content["last"]["state"] == "refused"


def test_with_existing_ones_skipped_a_broken_off_file_goes_on(tmp_path):
    """The balances of those that are there have moved since: they are left alone."""

    async def script(client):
        first = await client.ask("POST", TO_ACCOUNTS, ACCOUNTS + account_rows(9))
        await client.ask(
            "POST", "/api/accounts/n3/adjustments", {"amount": 5, "reason": "moved"}
        )
        again = await client.ask(
            "POST", TO_ACCOUNTS + SKIP, ACCOUNTS + account_rows(MANY)
        )
        cards = [
            await client.ask("POST", TO_CARDS + SKIP, CARDS + card_rows(count))
            for count in (7, 10)
        ]
        moved = await client.ask("GET", "/api/accounts/n3")
        return first, again, cards, moved

    first, again, cards, moved = run(tmp_path, script)
    assert first.content == {"imported": 9, "existing": 0}
    assert again.content == {"imported": MANY - 9, "existing": 9}
    assert [answer.content for answer in cards] == [
        {"imported": 7, "existing": 0},
        {"imported": 3, "existing": 7},
    ]
    assert moved.content["balance"] == 8


def test_one_twice_in_the_file_is_told_with_the_line_of_the_first(tmp_path):
    """Also when many are between them."""
    rows = account_rows(MANY) + "n0,EUR,1,0\n"
    pans = "".join(f"{pan_of(n)},main,3012,active\n" for n in (1, 2, 1))

    async def script(client):
        return (
            await client.ask("POST", TO_ACCOUNTS, ACCOUNTS + rows),
            await client.ask("POST", TO_CARDS, CARDS + pans),
        )

    told = [answer.content["error"]["problems"] for answer in run(tmp_path, script)]
    same = "expected each once, got the same as line 2"
    assert told == [[f"line {MANY + 2}: account: {same}"], [f"line 4: pan: {same}"]]


def test_it_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "IMPORT_ROWS_MAX", 100)
    monkeypatch.setattr(imports, "IMPORT_BYTES_MAX", 10_000)

    async def script(client):
        rows = await client.ask("POST", TO_ACCOUNTS, ACCOUNTS + account_rows(200))
        size = await client.ask("POST", TO_ACCOUNTS, "\n" * 10_001)
        kind = await client.ask("POST", TO_ACCOUNTS, {"account": "x"})
        bare = await client.ask("POST", "/api/imports/accounts", ACCOUNTS)
        other = await client.ask("POST", TO_ACCOUNTS + "&existing=replace", ACCOUNTS)
        return (rows, size, kind, bare, other), list(entries(client.served))

    answers, kept = run(tmp_path, script)
    assert [answer.status for answer in answers] == [413, 413, 415, 400, 400]
    assert "at most 100 rows" in answers[0].message
    assert kept == []


def importer_of(served):
    node = served.node
    behind = node.group, served.directory, KEYS, lambda: node.now
    return Importer(*behind, served.folder)


async def body_of(*chunks):
    for chunk in chunks:
        yield chunk.encode()


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_body_may_come_in_pieces_of_any_size(tmp_path, size):
    text = '\ufeff"account",currency,balance,credit_limit\r\n"é"",x",EUR,1,0\r\n'
    text += 'a"b,EUR,5,0\nc d,EUR,6,0\n"quoted, too",EUR,7,0'

    async def script(client):
        data = text.replace("é", "e").encode()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]

        async def body():
            for piece in pieces:
                yield piece

        importer = importer_of(client.served)
        await importer.run("accounts", "a", QUERY, body())
        return {
            (entry.account, entry.balance) for entry in entries(client.served)
        }  # fmt: skip

    assert run(tmp_path, script) == {
        ('e",x', 1), ('a"b', 5), ("c d", 6), ("quoted, too", 7),
    }  # fmt: skip


def test_a_row_of_several_lines_is_one_row_however_it_comes(tmp_path):
    text = ACCOUNTS + 'a,EUR,1,0\n"two\nlines",EUR,1,0\nb,EUR,x,0\n'

    async def script(client):
        with pytest.raises(ImportBad) as bad:
            await importer_of(client.served).run("accounts", "a", QUERY, body_of(*text))
        return bad.value.problems

    problems = run(tmp_path, script)
    assert [each.split(":")[:2] for each in problems] == [
        ["line 3", " account"], ["line 5", " balance"],
    ]  # fmt: skip


def test_a_second_import_at_once_is_refused(tmp_path):
    async def script(client):
        importer = importer_of(client.served)
        body = body_of(ACCOUNTS, account_rows(MANY))
        loading = asyncio.create_task(importer.run("accounts", "a", QUERY, body))
        await asyncio.sleep(0)
        with pytest.raises(AdminError, match="one import at a time") as refused:
            await importer.run("cards", "a", QUERY, body_of(CARDS))
        assert refused.value.status == 503
        return await loading

    assert run(tmp_path, script).imported == MANY


def test_the_loop_is_left_to_others_again_and_again(tmp_path, monkeypatch):
    """However long a piece takes: after each one that is over its time."""
    monkeypatch.setattr(imports, "SLICE_SECONDS", 0.0)
    pieces = 20

    async def script(client):
        body = body_of(ACCOUNTS, account_rows(pieces * CHECK_ROWS))
        importer = importer_of(client.served)
        loading = asyncio.create_task(importer.run("accounts", "a", QUERY, body))
        turns = 0
        while not client.served.submitted.is_set():
            turns += 1
            await asyncio.sleep(0)
        await loading
        return turns

    assert run(tmp_path, script) >= pieces


def test_each_commit_has_a_piece_and_waits_for_the_one_before(tmp_path):
    async def script(client):
        body = body_of(ACCOUNTS, account_rows(MANY))
        await importer_of(client.served).run("accounts", "a", QUERY, body)
        journal = client.served.node.journal
        return [
            sum(record.count for record in commit.records)
            for commit in journal.read(1)
        ]  # fmt: skip

    assert run(tmp_path, script) == [WRITE_ROWS] * 3 + [7]


def test_a_name_taken_while_it_was_checked_ends_it_and_says_where(tmp_path):
    """The rows before stay: they are durable, and have been seen."""
    taken = 2 * WRITE_ROWS + 5

    async def script(client):
        node = client.served.node

        async def body():
            yield (ACCOUNTS + account_rows(MANY)).encode()
            # All of it has been checked by now.
            name = f"n{taken}"
            state = node.states[shard_of_account(name.encode(), len(node.states))]
            entry = open_account(
                state, name, 978, 1, 0, operator="m", reason="first", now=node.now
            )
            node.group.administer([(state.shard, entry)], node.now)

        importer = importer_of(client.served)
        with pytest.raises(AdminError, match="opened meanwhile: the 256 rows") as error:
            await importer.run("accounts", "a", QUERY, body())
        assert error.value.status == 409
        assert importer.status.state == "failed"
        assert importer.status.imported == 2 * WRITE_ROWS
        rest = await importer.run(
            "accounts", "a", ImportQuery("again", "skip"),
            body_of(ACCOUNTS, account_rows(MANY)),
        )  # fmt: skip
        return rest, sorted(int(e.account[1:]) for e in entries(client.served))

    rest, names = run(tmp_path, script)
    assert rest.existing == 2 * WRITE_ROWS + 1
    assert names == list(range(MANY))


def test_a_body_that_breaks_off_leaves_nothing(tmp_path):
    async def script(client):
        async def body():
            yield (ACCOUNTS + account_rows(MANY)).encode()
            raise ConnectionResetError

        importer = importer_of(client.served)
        with pytest.raises(AdminError) as error:
            await importer.run("accounts", "a", QUERY, body())
        assert error.value.status == 503
        done = await importer.run("accounts", "a", QUERY, body_of(ACCOUNTS))
        return done, list(entries(client.served))

    done, kept = run(tmp_path, script)
    assert (done.imported, kept) == (0, [])
