"""The ledger against an auditor that shares no code with it.

Invariant: whatever is asked, in whatever order and however often,
- the same request gets the same answer, or 91 once an approval was withdrawn;
- an approval never makes available funds negative;
- balance and holds are the sums of what the entries say, and of what was answered;
- what an operator did is what the entry says, and nothing else is changed by it;
- replaying the packed entries, from anywhere, leads to the same state.
"""

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from switch.ledger import (
    ACCOUNT_STATUSES,
    CARD_STATUSES,
    AccountOpened,
    CardIssued,
    Change,
    ChangeRefused,
    Limits,
    Request,
    State,
    Transaction,
    adjust,
    apply,
    apply_payload,
    change_account_status,
    change_card_expiry,
    change_card_status,
    change_limit,
    decide,
    decide_expiries,
    decide_withdrawal,
    decode_entries,
    dump,
    restore,
)

NOW = 1_764_000_000_000
# when, response code, approval code
Answer = tuple[int, str, str | None]
CURRENCIES = (826, 978)
MTIS = {1: "0100", 2: "0200", 3: "0120", 4: "0220", 5: "0400"}
CARDS = [bytes([number]) * 16 for number in range(4)]  # the last is nobody's

requests = st.fixed_dictionaries(
    {
        "kind": st.integers(1, 5),
        "card": st.integers(0, 3),
        "stan": st.integers(1, 6),
        "rrn": st.sampled_from(["", "A"]),
        # all that an account has, and one more: what must not be approved is near
        "amount": st.one_of(st.integers(0, 400), st.sampled_from([1, 500, 500, 501])),
        "currency": st.sampled_from(CURRENCIES),
        "advice_approved": st.booleans(),
        "processing_code": st.sampled_from([0, 0, 0, 200_000, 310_000]),
        "original": st.tuples(st.integers(1, 4), st.integers(1, 6)),
        "replacement": st.sampled_from([None, None, 50]),
        "minutes": st.sampled_from([0, 0, 0, 1, 30, 70]),
        # before it, by an operator: what, of which account and its card, and to what
        "change": st.one_of(
            st.none(),
            st.none(),
            st.tuples(
                st.sampled_from(["limit", "adjust", "status", "expiry", "account"]),
                st.integers(0, 3),
                st.integers(-300, 300),
            ),
        ),
        # of an earlier approval, by its number: the answer came too late
        "withdrawn": st.sampled_from([None, None, None, 0, 1, 2]),
    }
)


def bank(limits: Limits) -> tuple[State, list[bytes]]:
    state = State(3, limits)
    packed = []
    opening = [
        AccountOpened(f"account-{n}", CURRENCIES[n % 2], 500, 100 * n, at=NOW)
        for n in range(3)
    ]
    issuing = [
        CardIssued(CARDS[n], b"", f"account-{n}", n, 9912, 0, "0000", at=NOW)
        for n in range(3)
    ]
    for entry in opening + issuing:
        data = entry.encode()
        packed.append(data)
        apply_payload(state, data, state.sequence + 1)
    return state, packed


def build(values: dict[str, Any]) -> Request:
    kind, stan = values["original"]
    names = values["kind"] in (4, 5)
    return Request(
        values["kind"],
        pan_hash=CARDS[values["card"]],
        mti=MTIS[values["kind"]],
        stan=str(values["stan"]),
        rrn=values["rrn"],
        amount=values["amount"],
        currency=values["currency"],
        advice_approved=values["advice_approved"],
        processing_code=values["processing_code"],
        original=(MTIS[kind], 0, "0101000000", str(stan), "") if names else None,
        replacement_amount=values["replacement"] if values["kind"] == 5 else None,
    )


def administer(
    state: State, what: str, number: int, value: int, now: int
) -> Change | None:
    """One change; None where it is refused, or the value is that already."""
    account, card = f"account-{number}", CARDS[number]
    why: Any = {"operator": "maria", "reason": "because", "now": now}
    try:
        if what == "limit":
            return change_limit(state, account, value, **why)
        if what == "adjust":
            key = bytes([value % 7]) * 32 if value % 2 else None
            return adjust(state, account, value, operation_key=key, **why)
        if what == "account":
            status = ACCOUNT_STATUSES[value % 3]
            return change_account_status(state, account, status, **why)
        if what == "status":
            return change_card_status(state, card, CARD_STATUSES[value % 5], **why)
        return change_card_expiry(state, card, 9900 + value % 12 + 1, **why)
    except ChangeRefused:
        return None


def may_be_refused(what: str, number: int, value: int) -> bool:
    is_known = number < 3
    return (
        not is_known
        or (what, value) == ("adjust", 0)
        or (what == "limit" and value < 0)
    )


class Auditor:
    """Sums what the entries say; knows nothing of how they came about."""

    def __init__(self) -> None:
        self.balance: dict[str, int] = {}
        self.credit_limit: dict[str, int] = {}
        self.holds: dict[str, dict[int, int]] = defaultdict(dict)
        self.cards: dict[bytes, tuple[int, int]] = {}
        self.statuses: dict[str, int] = defaultdict(int)

    def see(self, entry: object) -> None:
        if isinstance(entry, AccountOpened):
            self.balance[entry.account] = entry.balance
            self.credit_limit[entry.account] = entry.credit_limit
        elif isinstance(entry, CardIssued):
            self.cards[entry.pan_hash] = entry.status, entry.expiry
        elif isinstance(entry, Change):
            self.see_change(entry)
        elif isinstance(entry, Transaction) and entry.account:
            before = self.available(entry.account)
            self.balance[entry.account] += entry.balance_change
            holds = self.holds[entry.account]
            if entry.held_change > 0:
                holds[entry.sequence] = entry.held_change
            elif entry.held_change < 0:
                holds[entry.original_sequence] += entry.held_change
                assert holds[entry.original_sequence] >= 0
                if holds[entry.original_sequence] == 0:
                    del holds[entry.original_sequence]
            if entry.approved:
                assert self.statuses[entry.account] == 0, entry.name
                assert self.available(entry.account) >= min(0, before), entry.name

    def see_change(self, entry: Change) -> None:
        assert (entry.operator, entry.reason) == ("maria", "because")
        if entry.name == "limit_changed":
            assert entry.previous == self.credit_limit[entry.account]
            self.credit_limit[entry.account] = entry.value
        elif entry.name == "adjusted":
            assert entry.previous == self.balance[entry.account]
            self.balance[entry.account] += entry.balance_change
            assert entry.value == self.balance[entry.account]
        elif entry.name == "account_status_changed":
            assert entry.previous == self.statuses[entry.account]
            if ACCOUNT_STATUSES[entry.value] == "closed":
                assert self.balance[entry.account] == 0
                assert not self.holds[entry.account]
            self.statuses[entry.account] = entry.value
        else:
            status, expiry = self.cards[entry.pan_hash]
            if entry.name == "card_status_changed":
                assert entry.previous == status
                self.cards[entry.pan_hash] = entry.value, expiry
            else:
                assert entry.previous == expiry
                self.cards[entry.pan_hash] = status, entry.value

    def available(self, account: str) -> int:
        held = sum(self.holds[account].values())
        return self.balance[account] + self.credit_limit[account] - held


@settings(max_examples=300, deadline=None)
@given(st.lists(requests, max_size=40), st.integers(0, 40), st.booleans())
def test_the_ledger_and_an_auditor_agree(asked, cut, holds_outlive_the_window):
    lifetimes_ms = (7_200_000, 3_600_000) if holds_outlive_the_window else (
        3_600_000, 7_200_000,
    )  # fmt: skip
    limits = Limits(
        hold_lifetime_ms=lifetimes_ms[0], duplicate_window_ms=lifetimes_ms[1]
    )
    state, packed = bank(limits)
    first_answers: dict[tuple[object, ...], Answer] = {}
    approvals: list[tuple[tuple[object, ...], Transaction, Answer]] = []
    restored = None
    now = NOW
    for step, values in enumerate(asked):
        now += values["minutes"] * 60_000
        for entry in decide_expiries(state, now):
            packed.append(entry.encode())
            apply(state, entry)
        if values["change"] is not None:
            what, number, value = values["change"]
            change = administer(state, what, number, value, now)
            if may_be_refused(what, number, value):
                assert change is None
            if change is not None:
                packed.append(change.encode())
                apply(state, change)
        decision = decide(state, build(values), now)
        answer = (now, decision.response_code, decision.approval_code)
        key = (values["kind"], values["card"], values["stan"], values["rrn"])
        first = first_answers.setdefault(key, answer)
        if decision.repeated:
            assert answer[1:] == first[1:]
        elif first is not answer:
            assert now - first[0] > limits.duplicate_window_ms
            first_answers[key] = answer
        for entry in decision.entries:
            packed.append(entry.encode())
            apply(state, entry)
            if decision.approved:
                approvals.append((key, entry, answer))
        if values["withdrawn"] is not None and values["withdrawn"] < len(approvals):
            late_key, approval, told = approvals.pop(values["withdrawn"])
            withdrawal = decide_withdrawal(state, approval, now)
            if withdrawal is not None:
                packed.append(withdrawal.encode())
                apply(state, withdrawal)
                # an older one of the same key is nobody's first answer any more
                if first_answers[late_key] is told:
                    first_answers[late_key] = (told[0], "91", None)
        if step == cut:
            restored = (restore(dump(state), Limits()), state.sequence)
    check_books(state, packed)
    check_replay(state, packed, restored)


def check_books(state: State, packed: list[bytes]) -> None:
    auditor = Auditor()
    for entry in decode_entries(b"".join(packed), 1):
        auditor.see(entry)
    for view in state.accounts():
        assert view.balance == auditor.balance[view.account]
        assert view.held == sum(auditor.holds[view.account].values())
        assert view.available == auditor.available(view.account)
        assert view.status == auditor.statuses[view.account]
    for pan_hash, (status, expiry) in auditor.cards.items():
        card = state.card(pan_hash)
        assert card is not None
        assert (card.status, card.expiry) == (status, expiry)
    open_holds = {hold.sequence: hold.remaining for hold in state.holds()}
    audited = {}
    for holds in auditor.holds.values():
        audited.update(holds)
    assert open_holds == audited


def check_replay(state: State, packed: list[bytes], restored) -> None:
    limits = state.limits
    fresh = State(
        3,
        Limits(
            hold_lifetime_ms=limits.hold_lifetime_ms,
            duplicate_window_ms=limits.duplicate_window_ms,
        ),
    )
    assert apply_payload(fresh, b"".join(packed), 1) == len(packed)
    assert dump(fresh) == dump(state)
    if restored is not None:
        later, sequence = restored
        # entries that a snapshot has already are skipped, not applied again
        assert apply_payload(later, b"".join(packed), 1) == len(packed) - sequence
        assert list(later.accounts()) == list(state.accounts())
        assert list(map(later.card, CARDS)) == list(map(state.card, CARDS))
        assert later.sequence == state.sequence
