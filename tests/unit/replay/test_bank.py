import datetime
from collections import Counter

from switch.replay.bank import make_bank, with_check_digit

TODAY = datetime.date(2026, 5, 17)


def test_the_check_digit_is_luhns():
    # the example of ISO/IEC 7812-1, annex B
    assert with_check_digit("7992739871") == "79927398713"
    assert with_check_digit("400000000000000") == "4000000000000002"


def test_the_same_seed_makes_the_same_bank():
    assert make_bank(3, TODAY) == make_bank(3, TODAY) != make_bank(4, TODAY)


def test_cards_are_test_cards_with_right_check_digits():
    bank = make_bank(1, TODAY)
    pans = [card.pan for card in bank.cards]
    assert len(set(pans)) == len(pans) >= len(bank.accounts) > 100
    for pan in pans:
        assert pan.startswith("999999")
        assert len(pan) == 16
        assert with_check_digit(pan[:-1]) == pan


def test_there_is_something_to_decline():
    bank = make_bank(1, TODAY)
    statuses = Counter(card.status for card in bank.cards)
    assert set(statuses) == {"active", "restricted", "lost", "stolen", "closed"}
    assert statuses["active"] > len(bank.cards) * 0.8
    assert any(card.expiry < "2605" for card in bank.cards)
    assert any(account.balance < 2_000 for account in bank.accounts)
    assert {account.currency for account in bank.accounts} == {"EUR", "USD", "GBP"}


def test_the_files_are_what_the_imports_take(tmp_path):
    bank = make_bank(1, TODAY)
    accounts, cards = bank.write(tmp_path)
    lines = accounts.read_text().splitlines()
    assert lines[0] == "account,currency,balance,credit_limit"
    assert len(lines) == len(bank.accounts) + 1
    lines = cards.read_text().splitlines()
    assert lines[0] == "pan,account,expiry,status"
    assert len(lines) == len(bank.cards) + 1
    assert "999999" not in repr(bank.cards[0])
