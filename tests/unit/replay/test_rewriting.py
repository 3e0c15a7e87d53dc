import datetime

import pytest

import iso8583
from switch.replay.cards import read_card_map
from switch.replay.errors import CardFileError
from switch.replay.rewriting import REMEMBERED_MAX, Rewriter, UnmappedCardError

CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)
CAPTURED, SENT = "9999990000000014", "9999990000000022"


def message(mti: str = "0100", **more: str) -> iso8583.Message:
    fields: dict[int | str, str] = {"mti": mti, 7: "0102030405", 11: "000017"}
    fields |= {int(name[1:]): value for name, value in more.items()}
    return CODEC.message(fields)


def rewrite(rewriter: Rewriter, given: iso8583.Message) -> iso8583.Message:
    rewritten = rewriter.rewrite(bytes(given), given)
    assert rewritten.body == bytes(rewritten.message)
    return rewritten.message


@pytest.fixture
def fresh():
    return Rewriter(fresh=True, now=lambda: NOW)


def test_nothing_changes_unless_it_is_told_to():
    given = message(f2=CAPTURED, f37="000000000017")
    rewritten = Rewriter().rewrite(b"as it came", given)
    assert rewritten.body == b"as it came"
    assert rewritten.replaced == {}


def test_only_the_numbers_change_and_what_they_were_is_known(fresh):
    given = message(f2=CAPTURED, f12="030405", f32="123456", f37="000000000017")
    rewritten = fresh.rewrite(bytes(given), given)
    assert set(rewritten.replaced) == {7, 11, 37}
    for field, (before, after) in rewritten.replaced.items():
        assert given[field] == before
        assert rewritten.message[field] == after
    assert {field for field in given if given[field] != rewritten.message[field]} <= {
        7,
        11,
        37,
    }
    assert rewritten.message[7] == "1124120000"


def test_no_field_is_added(fresh):
    given = message()
    assert list(rewrite(fresh, given)) == [7, 11]


def test_new_requests_get_new_numbers_and_repeats_the_first_ones(fresh):
    first = rewrite(fresh, message(f37="000000000001"))
    second = rewrite(fresh, message(f37="000000000002"))
    repeat = rewrite(fresh, message("0101", f37="000000000001"))
    assert first[11] != second[11]
    assert first[37] != second[37]
    assert (repeat[7], repeat[11], repeat[37]) == (first[7], first[11], first[37])


def test_a_reversal_names_what_its_original_became(fresh):
    original = rewrite(fresh, message(f32="123456", f37="000000000001"))
    named = f"0100{17:06}0102030405{123456:011}{0:011}"
    reversal = message("0400", f37="000000000001", f90=named)
    reversal[11] = "000018"
    changed = rewrite(fresh, reversal)
    assert changed[90] == f"0100{original[11]}{original[7]}{123456:011}{0:011}"
    assert changed[37] == original[37]
    assert changed[11] != original[11]


def test_a_reversal_of_what_is_not_in_the_capture_stays(fresh):
    named = f"0100{99:06}0102030405{123456:011}{0:011}"
    assert rewrite(fresh, message("0400", f90=named))[90] == named


def test_another_pass_is_other_transactions(fresh):
    first = rewrite(fresh, message(f37="000000000001"))
    fresh.begin_pass()
    second = rewrite(fresh, message(f37="000000000001"))
    assert first[11] != second[11]
    assert first[37] != second[37]


def test_of_a_long_capture_the_oldest_numbers_are_forgotten(fresh):
    first = rewrite(fresh, message(f37="000000000001"))
    for number in range(2, REMEMBERED_MAX + 2):
        given = message(f37=f"{number:012}")
        fresh.rewrite(b"", given)
    numbers = fresh._fresh
    assert len(numbers._messages) == len(numbers._rrns) == REMEMBERED_MAX
    assert rewrite(fresh, message(f37="000000000001"))[11] != first[11]


def test_cards_are_mapped_in_every_place_that_has_one():
    rewriter = Rewriter(cards={CAPTURED: SENT})
    given = message(
        f2=CAPTURED,
        f35=f"{CAPTURED}D49121010000",
        f36=f"01{CAPTURED}=724",
        f45=f"B{CAPTURED}^DOE/JO^4912101",
    )
    changed = rewrite(rewriter, given)
    assert changed[2] == SENT
    assert changed[35] == f"{SENT}D49121010000"
    assert changed[36] == f"01{SENT}=724"
    assert changed[45] == f"B{SENT}^DOE/JO^4912101"
    assert CAPTURED.encode() not in bytes(changed)


@pytest.mark.parametrize(
    "fields",
    [
        {"f2": SENT},
        {"f2": CAPTURED, "f35": f"{SENT}D4912"},
        {"f35": "no track"},
        {"f45": f"B {CAPTURED}^X^4912"},
    ],
)
def test_a_card_that_is_not_mapped_does_not_leave(fields):
    rewriter = Rewriter(cards={CAPTURED: SENT})
    given = message(**fields)
    with pytest.raises(UnmappedCardError) as raised:
        rewriter.rewrite(bytes(given), given)
    assert str(raised.value) == ""


def test_a_malformed_message_may_hide_a_card():
    given = message()
    with pytest.raises(UnmappedCardError):
        Rewriter(cards={CAPTURED: SENT}).rewrite(b"", given, is_whole=False)
    assert Rewriter(fresh=True).rewrite(b"x", given, is_whole=False).body == b"x"


def test_messages_without_cards_pass():
    given = message("0800", f70="301")
    assert rewrite(Rewriter(cards={}), given)[70] == "301"


# -- the file


def test_a_map_of_cards_is_read(tmp_path):
    path = tmp_path / "cards.csv"
    path.write_text(f"from,to\n{CAPTURED},{SENT}\n\n{SENT}, {CAPTURED}\n")
    assert read_card_map(path) == {CAPTURED: SENT, SENT: CAPTURED}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pan,to\n", "line 1: expected the columns from and to, got 2 others"),
        (f"from,to\n{CAPTURED}\n", "line 2: expected at least 2 columns, got 1"),
        (
            f"from,to\n{CAPTURED},12\n",
            "line 2: expected a PAN of 12 to 19 digits, got 2",
        ),
        (
            f"from,to\n{CAPTURED},{SENT}0\n",
            "line 2: expected two PANs of one length, got 16 and 17 digits",
        ),
    ],
)
def test_a_bad_map_is_told_without_its_cards(tmp_path, text, fault):
    path = tmp_path / "cards.csv"
    path.write_text(text)
    with pytest.raises(CardFileError, match=fault) as raised:
        read_card_map(path)
    assert CAPTURED not in str(raised.value)
