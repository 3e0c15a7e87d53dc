"""Files of accounts and cards: what is taken, what is refused and how it is said."""

import itertools
import json
import os
import threading
from pathlib import Path

import pytest

from switch.cli import exits
from switch.cli.imports import PROBLEMS_SHOWN_MAX
from switch.cli.main import main
from switch.imports import BATCH_ROWS, import_accounts
from switch.ledger import MONEY_MAX
from switch.rows import PROBLEMS_MAX, ImportRefused
from tests.unit.import_files import (
    ACCOUNTS,
    CARDS,
    SHARD_COUNT,
    accounts,
    cards,
    cards_by_pan,
    config_of,
    kept,
    no_progress,
    written,
)

PAN = "4000001234567899"
OTHER_PAN = "9999990000000010"


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path)


def problems_of(call, *arguments) -> list[str]:
    with pytest.raises(ImportRefused) as caught:
        call(*arguments)
    assert caught.value.count == len(caught.value.problems)
    return caught.value.problems


# --- what is taken


def test_accounts_as_they_stand_in_the_file(config):
    rows = f"a,EUR,-5,0\nb,JPY,{MONEY_MAX},{MONEY_MAX}\nc,GBP,{-MONEY_MAX},7\n"
    assert accounts(config, ACCOUNTS + rows) == 3
    found = kept(config).accounts
    assert {
        name: (view.currency, view.balance, view.credit_limit, view.held)
        for name, view in found.items()
    } == {
        "a": (978, -5, 0, 0),
        "b": (392, MONEY_MAX, MONEY_MAX, 0),
        "c": (826, -MONEY_MAX, 7, 0),
    }


def test_cards_as_they_stand_in_the_file(config):
    accounts(config, ACCOUNTS + "a,EUR,1,0\nb,EUR,1,0\n")
    statuses = ("active", "restricted", "lost", "stolen", "closed")
    pans = [f"99999900000000{number:02d}" for number in range(5)]
    rows = [
        f"{pan},{'ab'[number % 2]},{3001 + number},{status}\n"
        for number, (pan, status) in enumerate(zip(pans, statuses, strict=True))
    ]
    assert cards(config, CARDS + "".join(rows)) == 5
    assert cards_by_pan(config, pans) == {
        pan: ("ab"[number % 2], 3001 + number, number)
        for number, pan in enumerate(pans)
    }


@pytest.mark.parametrize("pan", ["12345678", "1234567890123456789"])
def test_the_shortest_and_the_longest_pan(config, pan):
    accounts(config, ACCOUNTS + "a,EUR,1,0\n")
    assert cards(config, CARDS + f"{pan},a,4912,active\n") == 1
    assert cards_by_pan(config, [pan]) == {pan: ("a", 4912, 0)}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_columns_in_any_order(config, order):
    def line(values):
        return ",".join(values[index] for index in order) + "\n"

    text = line(("account", "currency", "balance", "credit_limit"))
    accounts(config, text + line(("a", "EUR", "12", "34")))
    view = kept(config).accounts["a"]
    assert (view.currency, view.balance, view.credit_limit) == (978, 12, 34)


@pytest.mark.parametrize(
    "text",
    [
        ACCOUNTS + "a,EUR,12,34",
        ACCOUNTS.replace("\n", "\r\n") + "a,EUR,12,34\r\n",
        ACCOUNTS.replace("\n", "\r") + "a,EUR,12,34\r",
        "\N{ZERO WIDTH NO-BREAK SPACE}" + ACCOUNTS + "a,EUR,12,34\n",
        ACCOUNTS + "\n\na,EUR,12,34\n\n",
        "Account, Currency ,BALANCE,credit_limit\n a , EUR , 12 , 34 \n",
        '"account","currency","balance","credit_limit"\n"a","EUR","12","34"\n',
        ACCOUNTS + "a,EUR,-0012,0034\n".replace("-", ""),
        ACCOUNTS + f"a,EUR,{'0' * 30}12,{'0' * 5000}34\n",
    ],
    ids=["no-last-break", "crlf", "cr", "bom", "blank-lines", "blanks", "quotes",
         "zeros", "many-zeros"],
)  # fmt: skip
def test_the_same_row_written_otherwise(config, text):
    assert accounts(config, text) == 1
    view = kept(config).accounts["a"]
    assert (view.currency, view.balance, view.credit_limit) == (978, 12, 34)


def test_a_name_may_hold_what_csv_has_to_quote(config):
    accounts(config, ACCOUNTS + '"a,b ""c""",EUR,12,34\n')
    assert list(kept(config).accounts) == ['a,b "c"']


def test_a_file_without_rows_is_no_error(config):
    assert accounts(config, ACCOUNTS) == 0
    assert kept(config).head == 0


def test_a_pipe_is_as_good_as_a_file(config, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = ACCOUNTS + "".join(f"a{number},EUR,1,0\n" for number in range(50_000))
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert import_accounts(config, pipe, no_progress) == (50_000, 0)
    writer.join()


def test_many_rows_are_many_commits_and_their_progress_is_told(config):
    count = 2 * BATCH_ROWS + 1
    text = ACCOUNTS + "".join(f"a{number},EUR,1,0\n" for number in range(count))
    told: list[tuple[float, str]] = []
    import_accounts(config, written(config, text), lambda *values: told.append(values))
    assert [words for _, words in told] == [
        "20,000 rows", "40,000 rows", "40,001 rows", "writing snapshots"
    ]  # fmt: skip
    done = [value for value, _ in told]
    assert done == sorted(done)
    assert 0 < done[0] <= done[-1] == 1
    found = kept(config)
    assert found.head == 3
    assert len(found.accounts) == count


# --- what is refused

BAD_ACCOUNTS = {
    ",EUR,1,0": "account: expected 1 to 32 printable ASCII characters, got 0",
    f"{'x' * 33},EUR,1,0": "account: expected 1 to 32 printable ASCII characters, "
    "got 33",
    "caf\xe9,EUR,1,0": "account: expected 1 to 32 printable ASCII characters, got 4, "
    "some of them others",
    "a\tb,EUR,1,0": "account: expected 1 to 32 printable ASCII characters, got 3, "
    "some of them others",
    "a,eur,1,0": "currency: expected ISO 4217 letters such as EUR, got eur",
    "a,978,1,0": "currency: expected ISO 4217 letters such as EUR, got others",
    "a,XAU,1,0": "currency: expected ISO 4217 letters such as EUR, got XAU",
    "a,EUR,,0": "balance: expected a whole number of minor units, got something else",
    "a,EUR,1.0,0": "balance: expected a whole number of minor units, got something "
    "else",
    "a,EUR,+1,0": "balance: expected a whole number of minor units, got something "
    "else",
    "a,EUR,1e3,0": "balance: expected a whole number of minor units, got something "
    "else",
    "a,EUR,--1,0": "balance: expected a whole number of minor units, got something "
    "else",
    "a,EUR,\u0661,0": "balance: expected a whole number of minor units, got something "
    "else",
    f"a,EUR,{MONEY_MAX + 1},0": f"balance: expected -{MONEY_MAX} to {MONEY_MAX}, got "
    "a number above",
    f"a,EUR,{-MONEY_MAX - 1},0": f"balance: expected -{MONEY_MAX} to {MONEY_MAX}, "
    "got a number below",
    f"a,EUR,1{'0' * 5000},0": f"balance: expected -{MONEY_MAX} to {MONEY_MAX}, got a "
    "number above",
    "a,EUR,1,-1": f"credit_limit: expected 0 to {MONEY_MAX}, got a number below",
    "a,EUR,1": "expected 4 columns, got 3",
    "a,EUR,1,0,": "expected 4 columns, got 5",
    "seen,EUR,1,0": "account: expected each once, got the same as line 2",
}  # fmt: skip


@pytest.mark.parametrize("row", BAD_ACCOUNTS)
def test_a_bad_account_is_told_by_its_line(config, row):
    text = ACCOUNTS + f"seen,EUR,1,0\n\n{row}\n"
    assert problems_of(accounts, config, text) == [f"line 4: {BAD_ACCOUNTS[row]}"]
    assert kept(config).head == 0


BAD_CARDS = {
    "4000001,a,4912,active": "pan: expected 8 to 19 digits, got 7 characters",
    f"{PAN}0000,a,4912,active": "pan: expected 8 to 19 digits, got 20 characters",
    "4000 0012 3456 7899,a,4912,active": "pan: expected 8 to 19 digits, got 19 "
    "characters",
    f"{PAN},nobody,4912,active": "account: expected one that is open, got another",
    f"{PAN},,4912,active": "account: expected 1 to 32 printable ASCII characters, "
    "got 0",
    f"{PAN},a,12/49,active": "expiry: expected YYMM, got 5 characters",
    f"{PAN},a,1249 1,active": "expiry: expected YYMM, got 6 characters",
    f"{PAN},a,4913,active": "expiry: expected YYMM, got 4 characters, no such month",
    f"{PAN},a,4900,active": "expiry: expected YYMM, got 4 characters, no such month",
    f"{PAN},a,4912,Active": "status: expected one of active, restricted, lost, "
    "stolen, closed, got another",
    f"{PAN},a,4912": "expected 4 columns, got 3",
    f"{OTHER_PAN},a,4912,active": "pan: expected each once, got the same as line 2",
}  # fmt: skip


@pytest.mark.parametrize("row", BAD_CARDS)
def test_a_bad_card_is_told_by_its_line(config, row):
    accounts(config, ACCOUNTS + "a,EUR,1,0\n")
    before = kept(config)
    text = CARDS + f"{OTHER_PAN},a,4912,active\n{row}\n"
    assert problems_of(cards, config, text) == [f"line 3: {BAD_CARDS[row]}"]
    assert kept(config) == before


@pytest.mark.parametrize("pan", [PAN, "9999990000000000018"])
def test_no_problem_repeats_a_pan_in_whatever_column_it_is(config, pan):
    """It may stand in the wrong column, negative, with a blank, or in the header."""
    accounts(config, ACCOUNTS + "a,EUR,1,0\n")
    shapes = (pan, f"-{pan}", f"{pan[:4]} {pan[4:]}", f"{pan}0", f"x{pan}")
    told = []
    for shape in shapes:
        rows = [shape] * 4
        good = (["b", "EUR", "1", "0"], [OTHER_PAN, "a", "4912", "active"])
        for call, header, values in (
            (accounts, ACCOUNTS, good[0]),
            (cards, CARDS, good[1]),
        ):
            texts = [header + ",".join(rows), ",".join(rows), ",".join([*values, pan])]
            texts += [header + ",".join([*rows, *rows])]
            texts += [
                header + ",".join([*values[:place], shape, *values[place + 1 :]])
                for place in range(4)
            ]
            texts += [f'{header}"{text}' for text in texts]
            for text in texts:
                try:
                    call(config_of(Path(config.data_directory).parent), text)
                except ImportRefused as error:
                    told += [str(error), *error.problems]
    assert len(told) > 100
    digits = [pan, pan[6:], pan[:-4]]
    assert not [text for text in told if any(part in text for part in digits)]


@pytest.mark.parametrize(
    ("header", "got"),
    [
        ("", "none of account,balance,credit_limit,currency"),
        ("account,currency,balance", "none of credit_limit"),
        ("account,currency,balance,credit_limit,extra", "1 others"),
        ("account,account,currency,balance,credit_limit", "some twice"),
        (f"{PAN},1,2,3", "none of account,balance,credit_limit,currency"),
    ],
)
def test_a_header_that_is_not_one(config, header, got):
    assert problems_of(accounts, config, f"{header}\na,EUR,1,0\n") == [
        f"line 1: expected the columns account,currency,balance,credit_limit, got {got}"
    ]


def test_what_is_no_csv(config):
    long = "x" * 200_000
    assert problems_of(accounts, config, long) == [
        "line 1: not CSV: field larger than field limit (131072)"
    ]
    assert problems_of(accounts, config, ACCOUNTS + "a,EUR,1,0\n" + long) == [
        "line 3: not CSV: field larger than field limit (131072)"
    ]
    (problem,) = problems_of(accounts, config, os.urandom(64) + b"\n")
    assert problem.startswith("line 1: expected the columns")
    (problem,) = problems_of(accounts, config, ACCOUNTS.encode() + b"\xff\0,EUR,1,0\n")
    assert problem.startswith("line 2: account: expected 1 to 32 printable")


def test_a_quote_that_is_not_closed_is_told_where_it_began(config):
    text = ACCOUNTS + 'a,EUR,1,0\n"b,EUR,1,0\n' + "c,EUR,1,0\n" * 3
    assert problems_of(accounts, config, text) == ["line 3: expected 4 columns, got 1"]
    text = ACCOUNTS + 'a,EUR,1,0\n"b\nc",EUR,1,0\nd,EUR,x,0\n'
    assert [problem[:8] for problem in problems_of(accounts, config, text)] == [
        "line 3: ",
        "line 5: ",
    ]


def test_every_bad_row_is_told(config):
    rows = [f"a{n},EUR,{'x' if n % 3 == 0 else n},0\n" for n in range(1, 100)]
    told = problems_of(accounts, config, ACCOUNTS + "".join(rows))
    assert [problem.split(":")[0] for problem in told] == [
        f"line {n + 1}" for n in range(3, 100, 3)
    ]


def test_what_is_wrong_in_several_ways_is_told_by_line(config):
    """A column too many, what is in a column, and a card that is issued are found one
    after the other; two-digit lines come behind one-digit ones."""
    accounts(config, ACCOUNTS + "a,EUR,1,0\n")
    cards(config, CARDS + f"{PAN},a,4912,active\n")
    bad = (f"{PAN},a,4912,active\n", f"{PAN},a,4913,active\n", f"{PAN},a\n")
    told = problems_of(cards, config, CARDS + "".join(bad * 4))
    assert [problem.split(":")[0] for problem in told] == [
        f"line {number}" for number in range(2, 14)
    ]


def test_a_file_full_of_mistakes_is_counted_to_its_end(config):
    count = PROBLEMS_MAX + 500
    with pytest.raises(ImportRefused, match=r"1,500 bad rows") as caught:
        accounts(config, ACCOUNTS + "a,EUR,x,0\n" * count)
    assert caught.value.count == count
    assert len(caught.value.problems) == PROBLEMS_MAX


# --- all of it or nothing


@pytest.mark.parametrize("bad_line", [2, BATCH_ROWS + 100, 2 * BATCH_ROWS + 50])
def test_a_refused_import_leaves_nothing(config, bad_line):
    """Also when whole batches before the bad row had been written."""
    accounts(config, ACCOUNTS + "before,EUR,1,0\n")
    before = kept(config)
    rows = [f"a{number},EUR,1,0\n" for number in range(2 * BATCH_ROWS + 100)]
    good = rows[bad_line - 2]
    rows[bad_line - 2] = "bad,EUR,x,0\n"
    (problem,) = problems_of(accounts, config, ACCOUNTS + "".join(rows))
    assert problem.startswith(f"line {bad_line}: balance")
    assert kept(config) == before
    rows[bad_line - 2] = good
    assert accounts(config, ACCOUNTS + "".join(rows)) == len(rows)
    assert len(kept(config).accounts) == len(rows) + 1


def test_an_import_that_is_interrupted_leaves_nothing(config):
    accounts(config, ACCOUNTS + "before,EUR,1,0\n")
    before = kept(config)
    text = ACCOUNTS + "".join(f"a{n},EUR,1,0\n" for n in range(BATCH_ROWS + 1))

    def interrupt(_done: float, words: str) -> None:
        if words == "20,001 rows":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_accounts(config, written(config, text), interrupt)
    assert kept(config) == before
    assert accounts(config, text) == BATCH_ROWS + 1


def test_an_account_twice_in_the_file_and_one_that_is_there(config):
    accounts(config, ACCOUNTS + "a,EUR,1,0\n")
    text = ACCOUNTS + "b,EUR,1,0\na,EUR,1,0\nb,EUR,1,0\n B ,EUR,1,0\n b ,EUR,2,0\n"
    assert problems_of(accounts, config, text) == [
        "line 3: account: expected a new one, got one that is open",
        "line 4: account: expected each once, got the same as line 2",
        "line 6: account: expected each once, got the same as line 2",
    ]


def test_a_card_twice_in_the_file_and_one_that_is_there(config):
    """Whichever shards the two rows' accounts are in."""
    names = [f"a{number}" for number in range(20)]
    accounts(config, ACCOUNTS + "".join(f"{name},EUR,1,0\n" for name in names))
    cards(config, CARDS + f"{PAN},a0,4912,active\n")
    before = kept(config)
    rows = [f"{PAN},{name},4912,active\n" for name in names]
    rows += [f"{OTHER_PAN},{name},4912,active\n" for name in names]
    same = "pan: expected each once, got the same as line"
    assert problems_of(cards, config, CARDS + "".join(rows)) == [
        "line 2: pan: expected a new one, got one that is issued",
        *(f"line {line}: {same} 2" for line in range(3, 22)),
        *(f"line {line}: {same} 22" for line in range(23, 42)),
    ]
    assert kept(config) == before


def test_cards_of_accounts_in_every_shard(config):
    names = [f"a{number}" for number in range(100)]
    pans = [f"9999990000{number:06d}" for number in range(200)]
    accounts(config, ACCOUNTS + "".join(f"{name},EUR,1,0\n" for name in names))
    for part in (pans[:100], pans[100:]):
        rows = [f"{pan},{names[int(pan[-6:]) % 100]},4912,active\n" for pan in part]
        assert cards(config, CARDS + "".join(rows)) == 100
    assert cards_by_pan(config, pans) == {
        pan: (names[int(pan[-6:]) % 100], 4912, 0) for pan in pans
    }
    found = kept(config)
    assert found.card_count == 200
    assert len(found.states) == SHARD_COUNT


# --- as a command


@pytest.fixture
def run(capsys, tmp_path):
    def call(what, text, *words):
        file = tmp_path / f"{what}.csv"
        file.write_text(text)
        directory = str(tmp_path / "bank")
        exit_code = main([what, "import", str(file), "--data", directory, *words])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.replace(f"{file}: ", "")

    return call


def test_the_commands_say_what_they_did(run):
    assert run("accounts", ACCOUNTS + "a,EUR,1,0\n" * 1) == (
        exits.OK, "1 accounts imported\n", ""
    )  # fmt: skip
    rows = "".join(f"999999000000{n:04d},a,4912,active\n" for n in range(1234))
    assert run("cards", CARDS + rows) == (exits.OK, "1,234 cards imported\n", "")
    exit_code, output, errors = run("accounts", ACCOUNTS + "b,EUR,1,0\n", "--json")
    imported = {"imported": 1, "existing": 0}
    assert (exit_code, json.loads(output), errors) == (exits.OK, imported, "")


def test_with_existing_ones_skipped_a_file_goes_on(run):
    assert run("accounts", ACCOUNTS + "a,EUR,1,0\n")[0] == exits.OK
    more = ACCOUNTS + "a,EUR,9,9\nb,EUR,2,0\n"
    said = run("accounts", more, "--skip-existing")
    assert said == (exits.OK, "1 accounts imported, 1 were there\n", "")
    exit_code, output, errors = run(
        "accounts", ACCOUNTS + "a,USD,1,0\n", "--skip-existing"
    )
    assert (exit_code, output) == (exits.USAGE, "")
    assert "line 2: currency: expected that of the account that is open" in errors
    rows = f"{PAN},a,4912,active\n"
    assert run("cards", CARDS + rows)[0] == exits.OK
    said = run("cards", CARDS + rows + f"{OTHER_PAN},b,4912,lost\n", "--skip-existing")
    assert said == (exits.OK, "1 cards imported, 1 were there\n", "")
    assert run("cards", CARDS + rows)[0] == exits.USAGE


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_the_command_shows_the_first_problems_and_counts_the_rest(run, words):
    count = PROBLEMS_SHOWN_MAX + 5
    rows = "".join(f"{PAN},EUR,{PAN}999,0\n" for _ in range(count))
    exit_code, output, errors = run("accounts", ACCOUNTS + rows, *words)
    assert (exit_code, output) == (exits.USAGE, "")
    *lines, last = errors.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"line {number + 2}" for number in range(PROBLEMS_SHOWN_MAX)
    ]
    assert last == f"switch: nothing imported: {count} bad rows"
    assert PAN not in errors


def test_one_bad_row_is_one(run):
    exit_code, _, errors = run("cards", CARDS + f"{PAN},a,4912,active\n")
    assert exit_code == exits.USAGE
    assert errors == (
        "line 2: account: expected one that is open, got another\n"
        "switch: nothing imported: 1 bad row\n"
    )


def test_a_file_that_is_not_there_initialises_nothing(capsys, tmp_path):
    words = ["accounts", "import", str(tmp_path / "none.csv")]
    assert main([*words, "--data", str(tmp_path / "bank")]) == exits.INPUT_OUTPUT
    assert "none.csv: No such file" in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()
