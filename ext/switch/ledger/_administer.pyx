# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What an operator does to accounts and cards: like `decide`, these only look.

Each returns the entry that has to be applied and made durable before it may be said to
be done, None where the value is that already, or raises ChangeRefused. `now` is
milliseconds since 1970 (UTC).

Rule 1: who and why are in every entry. Only an import into a data directory that no
        daemon runs on leaves both out.
Rule 2: an operator may take more than is available, or lower the limit below what is
        used: a correction is one whether there is money or not. An approval never
        follows from it.
Rule 3: `operation_key` is two hashes: of the key that the operator chose, and of what
        was asked for. It goes into the entry, and is remembered with it for the
        duplicate window. Whoever asks looks there first (`State.operation`).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from switch.ledger._entry cimport (
    ACCOUNT_OPENED, ACCOUNT_STATUS_CHANGED, ADJUSTED, CARD_EXPIRY_CHANGED,
    CARD_ISSUED, CARD_STATUS_CHANGED, LIMIT_CHANGED, NO_INDEX, PAN_HASH_SIZE,
    REASON_SIZE_MAX, AccountOpened, CardIssued, Change, Kind,
)
from switch.ledger._state cimport ACCOUNT_CLOSED, NONE, Account, Card

from switch.ledger._entry import ACCOUNT_STATUSES as _ACCOUNT_STATUSES
from switch.ledger._entry import CARD_STATUSES as _CARD_STATUSES

# of a balance, a limit or an adjustment; leaves room to add any amount of a message
MONEY_MAX = 10**17


class ChangeRefused(ValueError):
    """Nothing was changed; says what was expected and what came.

    `why`: "invalid" (it can never be done), "missing" (there is no such account or
    card), "conflict" (there is one already, or it is not as it has to be for this) or
    "full" (later, or without a key).
    """

    def __init__(self, str text, str why="invalid"):
        super().__init__(text)
        self.why = why


def open_account(
    State state not None, account, int currency, balance, credit_limit,
    *, operator, reason, int64_t now, operation_key=None,
):
    cdef AccountOpened entry
    _check_attribution(operator, reason)
    _check_room(state, operation_key, now)
    _check_money("balance", balance, -MONEY_MAX)
    _check_money("credit_limit", credit_limit, 0)
    entry = AccountOpened(
        account, currency, balance, credit_limit, at=0, operator=operator,
        reason=reason, operation_key=operation_key,
    )
    check_fits(state, entry)
    take_place(state, entry, now)
    return entry


def issue_card(
    State state not None, bytes pan_hash not None, bytes sealed_pan not None, account,
    expiry, status, str last_four not None, *, operator, reason, int64_t now,
    operation_key=None,
):
    cdef CardIssued entry
    cdef uint32_t index
    _check_attribution(operator, reason)
    _check_room(state, operation_key, now)
    index = _find_account(state, account)
    if state.accounts_table[index].status == ACCOUNT_CLOSED:
        raise ChangeRefused(
            "account: expected one that is open, got one that is closed", "conflict"
        )
    entry = CardIssued(
        pan_hash, sealed_pan, account, index, _expiry(expiry),
        _status(status, _CARD_STATUSES), last_four, at=0, operator=operator,
        reason=reason, operation_key=operation_key,
    )
    check_fits(state, entry)
    take_place(state, entry, now)
    return entry


def change_limit(
    State state not None, account, credit_limit, *, operator, reason, int64_t now
):
    cdef Change entry
    cdef uint32_t index
    _check_attribution(operator, reason)
    _check_money("credit_limit", credit_limit, 0)
    index = _find_account(state, account)
    if state.accounts_table[index].credit_limit == credit_limit:
        return None
    entry = _change_of(state, LIMIT_CHANGED, index, operator, reason)
    entry.body.previous = state.accounts_table[index].credit_limit
    entry.body.value = credit_limit
    take_place(state, entry, now)
    return entry


def change_account_status(
    State state not None, account, status, *, operator, reason, int64_t now
):
    """An account is closed with nothing on it and nothing held."""
    cdef Change entry
    cdef uint32_t index
    cdef Account* found
    cdef int number
    _check_attribution(operator, reason)
    number = _status(status, _ACCOUNT_STATUSES)
    index = _find_account(state, account)
    found = &state.accounts_table[index]
    if found.status == number:
        return None
    if number == ACCOUNT_CLOSED and (found.balance or found.held):
        raise ChangeRefused(
            "status: expected a balance of 0 and nothing held before it is closed, got "
            f"{found.balance} and {found.held}", "conflict"
        )
    entry = _change_of(state, ACCOUNT_STATUS_CHANGED, index, operator, reason)
    entry.body.previous = found.status
    entry.body.value = number
    take_place(state, entry, now)
    return entry


def adjust(
    State state not None, account, amount, *, operator, reason, int64_t now,
    operation_key=None,
):
    """Adds `amount`, which may be negative, to the balance."""
    cdef Change entry
    cdef uint32_t index
    cdef Account* found
    _check_attribution(operator, reason)
    _check_room(state, operation_key, now)
    _check_money("amount", amount, -MONEY_MAX)
    if amount == 0:
        raise ChangeRefused("amount: expected one that changes the balance, got 0")
    index = _find_account(state, account)
    found = &state.accounts_table[index]
    if not -MONEY_MAX <= found.balance + amount <= MONEY_MAX:
        raise ChangeRefused(
            f"amount: expected a balance of {-MONEY_MAX} to {MONEY_MAX} after it, got "
            f"{found.balance + amount}"
        )
    entry = _change_of(state, ADJUSTED, index, operator, reason)
    entry.put_key(operation_key)
    entry.body.balance_change = amount
    entry.body.previous = found.balance
    entry.body.value = found.balance + entry.body.balance_change
    take_place(state, entry, now)
    return entry


def change_card_status(
    State state not None, bytes pan_hash not None, status, *, operator, reason,
    int64_t now,
):
    cdef Change entry
    cdef uint32_t index
    cdef int number
    _check_attribution(operator, reason)
    number = _status(status, _CARD_STATUSES)
    index = _find_card(state, pan_hash)
    if state.cards_table[index].status == number:
        return None
    entry = _change_of_card(state, CARD_STATUS_CHANGED, index, operator, reason)
    entry.body.previous = state.cards_table[index].status
    entry.body.value = number
    take_place(state, entry, now)
    return entry


def change_card_expiry(
    State state not None, bytes pan_hash not None, expiry, *, operator, reason,
    int64_t now,
):
    cdef Change entry
    cdef uint32_t index
    cdef int number
    _check_attribution(operator, reason)
    number = _expiry(expiry)
    index = _find_card(state, pan_hash)
    if state.cards_table[index].expiry == number:
        return None
    entry = _change_of_card(state, CARD_EXPIRY_CHANGED, index, operator, reason)
    entry.body.previous = state.cards_table[index].expiry
    entry.body.value = number
    take_place(state, entry, now)
    return entry


# --- for whoever writes what was prepared a moment ago ------------------------------


cdef int check_fits(State state, Entry entry) except -1:
    """Raises if the account or the card of an opening or an issue is there by now."""
    if entry.kind == ACCOUNT_OPENED:
        if state.find_account(
            (<AccountOpened> entry).text, (<AccountOpened> entry).sizes.name
        ) != NONE:
            raise ChangeRefused(
                "account: expected a new one, got one that is open", "conflict"
            )
    elif entry.kind == CARD_ISSUED:
        if state.find_card((<CardIssued> entry).body.pan_hash) != NONE:
            raise ChangeRefused(
                "pan: expected a new one, got one that is issued", "conflict"
            )
    return 0


cdef int take_place(State state, Entry entry, int64_t now) except -1:
    """The shard's next entry, at a time that does not go back."""
    entry.sequence = state.sequence + 1
    entry.at = now if now > state.last_at else state.last_at
    return 0


# --- the parts, each straight on ----------------------------------------------------


cdef int _check_attribution(object operator, object reason) except -1:
    if not operator and not reason:
        return 0
    if not operator or not reason:
        raise ChangeRefused("operator and reason: expected both, got one of them")
    if not reason.isprintable() or reason != reason.strip():
        raise ChangeRefused(
            "reason: expected printable characters that begin and end with no blank, "
            "got others"
        )
    if len(reason.encode("utf-8", "replace")) > REASON_SIZE_MAX:
        raise ChangeRefused(
            f"reason: expected at most {REASON_SIZE_MAX} bytes of UTF-8, got "
            f"{len(reason.encode('utf-8', 'replace'))}"
        )
    return 0


cdef int _check_money(str name, object value, object minimum) except -1:
    if not minimum <= value <= MONEY_MAX:
        raise ChangeRefused(
            f"{name}: expected {minimum} to {MONEY_MAX}, got {value}"
        )
    return 0


cdef int _check_room(State state, object operation_key, int64_t now) except -1:
    if operation_key is not None and not state.takes_operations(now):
        raise ChangeRefused(
            "operation key: expected fewer in the duplicate window, got one more than "
            "are remembered: later, or without one", "full"
        )
    return 0


cdef int _status(object name, tuple known) except -1:
    if name not in known:
        raise ChangeRefused(
            f"status: expected one of {', '.join(known)}, got another"
        )
    return known.index(name)


cdef int _expiry(object number) except -1:
    if not (0 <= number <= 9912 and 1 <= number % 100 <= 12):
        raise ChangeRefused(f"expiry: expected YYMM, got {number}")
    return number


cdef uint32_t _find_account(State state, object account) except NONE:
    cdef bytes name = account if isinstance(account, bytes) else account.encode()
    cdef uint32_t index = state.find_account(
        <const uint8_t*> PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
    )
    if index == NONE:
        # The name is not repeated: it may be a card number, pasted by mistake.
        raise ChangeRefused(
            "account: expected one that is open, got another", "missing"
        )
    return index


cdef uint32_t _find_card(State state, bytes pan_hash) except NONE:
    cdef uint32_t index = NONE
    if len(pan_hash) == PAN_HASH_SIZE:
        index = state.find_card(<const uint8_t*> PyBytes_AS_STRING(pan_hash))
    if index == NONE:
        raise ChangeRefused("card: expected one that is issued, got another", "missing")
    return index


cdef Change _change_of(
    State state, Kind kind, uint32_t account, object operator, object reason
):
    cdef Change entry = Change.__new__(Change)
    if operator == "":
        raise ChangeRefused("operator: expected a name, got none")
    entry.put_texts(state._account_name(account), operator, reason)
    entry.kind = kind
    entry.body.account = account
    entry.body.card = NO_INDEX
    entry.body.currency = state.accounts_table[account].currency
    return entry


cdef Change _change_of_card(
    State state, Kind kind, uint32_t index, object operator, object reason
):
    cdef Card* card = &state.cards_table[index]
    cdef Change entry = _change_of(state, kind, card.account, operator, reason)
    entry.body.card = index
    memcpy(entry.body.pan_hash, card.pan_hash, PAN_HASH_SIZE)
    memcpy(entry.body.last_four, card.last_four, 4)
    return entry
