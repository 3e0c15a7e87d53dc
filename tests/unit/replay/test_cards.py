import pytest

from switch.replay.cards import read_cards
from switch.replay.errors import CardFileError


def test_every_card_is_read_whatever_its_status(cards_file):
    cards = list(read_cards(cards_file))
    assert [len(card.pan) for card in cards] == [16, 16, 18, 19]
    assert cards[0].expiry == b"3012"
    assert "999999" not in repr(cards[0])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: expected the columns pan and expiry"),
        ("a,b\n", "line 1: expected the columns pan and expiry"),
        ("pan,account,expiry,status\n4000\n", "line 2: expected at least 3 columns"),
        (
            "pan,account,expiry,status\n40000000000000x2,A,3012,active\n",
            "line 2: expected a PAN of 12 to 19 digits, got 16 characters",
        ),
        (
            "pan,account,expiry,status\n4000000000000002,A,30-12,active\n",
            "line 2: expected an expiry YYMM, got '30-12'",
        ),
    ],
)
def test_a_bad_file_is_told_by_line_and_without_card_numbers(tmp_path, text, fault):
    path = tmp_path / "cards.csv"
    path.write_text(text)
    with pytest.raises(CardFileError, match=fault) as raised:
        list(read_cards(path))
    assert "40000000" not in str(raised.value)
