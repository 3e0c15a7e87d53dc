# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""apply(state, entry): the only thing that changes a state.

Pure: what it does follows from the state and the entry alone, so that replaying the
journal leads to the same state again.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from switch.ledger._entry cimport (
    ACCOUNT_OPENED, ACCOUNT_STATUS_CHANGED, ADJUSTED, ADVISED_HOLD, ADVISED_POSTING,
    CARD_ISSUED, CARD_STATUS_CHANGED, FLAG_APPROVED, FLAG_REVERSED_BEFORE, HELD,
    HOLD_EXPIRED, LIMIT_CHANGED, NO_INDEX, POSTED, REVERSAL_REMEMBERED, WITHDRAWN,
    AccountOpened, Attributed, CardIssued, Change, ChangeBody, Entry, EntryHeader,
    Transaction, TransactionBody, unpack_entry,
)
from switch.ledger._state cimport (
    NONE, RECORD_CLOSED, RECORD_DECLINED, RECORD_HOLD_OPEN, RECORD_POSTED,
    RECORD_REVERSED_UNSEEN, WINDOW_MONEY, WINDOW_QUIET, Account, Card, Record, State,
    pan_prefix, record_key,
)

from switch.ledger._state import StateError


cpdef int apply(State state, Entry entry) except -1:
    """Changes the state by one entry, which must be the shard's next."""
    if entry.sequence != state.sequence + 1:
        raise StateError(
            f"shard {state.shard}: expected entry {state.sequence + 1}, "
            f"got {entry.sequence}"
        )
    if entry.kind == ACCOUNT_OPENED:
        _open_account(state, <AccountOpened> entry)
    elif entry.kind == CARD_ISSUED:
        _issue_card(state, <CardIssued> entry)
    elif entry.kind >= LIMIT_CHANGED:
        _change(state, <Change> entry)
    else:
        _apply_transaction(state, <Transaction> entry)
    state.advance(entry.sequence, entry.at)
    return 0


def apply_payload(
    State state not None, const uint8_t[::1] payload not None, uint64_t first_sequence
):
    """Applies the entries of a shard record that the state has not seen yet.

    Returns how many those were. Raises EntryError or StateError.
    """
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t size = payload.shape[0]
    cdef uint64_t sequence = first_sequence
    cdef Py_ssize_t applied = 0
    cdef EntryHeader header
    cdef Entry entry
    while offset < size:
        entry = unpack_entry(&payload[offset], size - offset, sequence)
        if sequence > state.sequence:
            apply(state, entry)
            applied += 1
        memcpy(&header, &payload[offset], sizeof(EntryHeader))
        offset += header.size
        sequence += 1
    return applied


cdef int _open_account(State state, AccountOpened entry) except -1:
    cdef Account account
    if state.find_account(entry.text, entry.sizes.name) != NONE:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: account is open already"
        )
    memset(&account, 0, sizeof(Account))
    account.balance = entry.body.balance
    account.credit_limit = entry.body.credit_limit
    account.currency = entry.body.currency
    account.name_size = entry.sizes.name
    state.reserve_account(entry.sizes.name)
    _remember(state, entry, 0)
    state.add_account(&account, entry.text)
    return 0


cdef int _issue_card(State state, CardIssued entry) except -1:
    cdef Card card
    if entry.body.account >= state.account_count:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: no account "
            f"{entry.body.account} for the card"
        )
    if state.find_card(entry.body.pan_hash) != NONE:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: card is issued already"
        )
    memset(&card, 0, sizeof(Card))
    memcpy(card.pan_hash, entry.body.pan_hash, 16)
    memcpy(card.last_four, entry.body.last_four, 4)
    memcpy(card.sealed_pan, entry.sealed, entry.body.sealed_pan_size)
    card.account = entry.body.account
    card.expiry = entry.body.expiry
    card.status = entry.body.status
    card.sealed_pan_size = entry.body.sealed_pan_size
    state.reserve_card()
    _remember(state, entry, 0)
    state.add_card(&card)
    return 0


cdef int _change(State state, Change entry) except -1:
    cdef ChangeBody* body = &entry.body
    cdef Account* account
    cdef Card* card
    if body.account >= state.account_count:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: no account {body.account}"
        )
    account = &state.accounts_table[body.account]
    if entry.kind == LIMIT_CHANGED:
        _expect_previous(state, entry, account.credit_limit)
        account.credit_limit = body.value
        return 0
    if entry.kind == ADJUSTED:
        _expect_previous(state, entry, account.balance)
        _remember(state, entry, body.value)
        account.balance += body.balance_change
        return 0
    if entry.kind == ACCOUNT_STATUS_CHANGED:
        _expect_previous(state, entry, account.status)
        account.status = <uint8_t> body.value
        return 0
    if body.card >= state.card_count:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: no card {body.card}"
        )
    card = &state.cards_table[body.card]
    if entry.kind == CARD_STATUS_CHANGED:
        _expect_previous(state, entry, card.status)
        card.status = <uint8_t> body.value
    else:
        _expect_previous(state, entry, card.expiry)
        card.expiry = <uint16_t> body.value
    return 0


cdef int _remember(State state, Attributed entry, int64_t value) except -1:
    """Before anything else is changed: there may be no memory for it."""
    return state.remember_operation(entry, value) if entry.is_keyed else 0


cdef int _expect_previous(State state, Change entry, int64_t got) except -1:
    if entry.body.previous != got:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: {entry.name}: expected to "
            f"find {entry.body.previous}, got {got}"
        )
    return 0


cdef int _apply_transaction(State state, Transaction entry) except -1:
    cdef TransactionBody* body = &entry.body
    cdef Record record
    state.reserve()
    _move_money(state, entry)
    if body.original_sequence:
        _settle_original(state, body)
    if entry.kind == WITHDRAWN:
        _change_answer(state, body)
    if entry.kind == HOLD_EXPIRED or entry.kind == WITHDRAWN:
        return 0
    _fill_record(&record, entry)
    if entry.kind == REVERSAL_REMEMBERED:
        _remember_reversal(state, &record, entry)
    elif body.flags & FLAG_REVERSED_BEFORE:
        _forget_reversal(state, &record, body)
    state.add_record(&record)
    return 0


cdef int _move_money(State state, Transaction entry) except -1:
    cdef Account* account
    if entry.body.account == NO_INDEX:
        return 0
    if entry.body.account >= state.account_count:
        raise StateError(
            f"shard {state.shard} entry {entry.sequence}: "
            f"no account {entry.body.account}"
        )
    account = &state.accounts_table[entry.body.account]
    account.balance += entry.body.balance_change
    account.held += entry.body.held_change
    return 0


cdef void _settle_original(State state, TransactionBody* body) noexcept:
    """What a reversal, a completion or the end of a hold leaves of the original."""
    cdef uint32_t index = state.find_sequence(
        &body.original, pan_prefix(body.pan_hash), body.original_sequence
    )
    cdef Record* record
    if index == NONE:
        return
    record = &state.records[index]
    if record.status == RECORD_HOLD_OPEN:
        record.remaining += body.held_change
        if record.remaining <= 0:
            state.close_hold(index, RECORD_CLOSED)
    elif record.status == RECORD_POSTED:
        record.remaining -= (
            body.balance_change if body.balance_change > 0 else -body.balance_change
        )
        if record.remaining <= 0:
            record.status = RECORD_CLOSED


cdef void _change_answer(State state, TransactionBody* body) noexcept:
    """A repeat of the original is declined from now on."""
    cdef uint32_t index = state.find_sequence(
        &body.original, pan_prefix(body.pan_hash), body.original_sequence
    )
    if index != NONE:
        state.records[index].flags &= ~<uint8_t> FLAG_APPROVED
        memcpy(state.records[index].response_code, body.response_code, 2)


cdef void _fill_record(Record* record, Transaction entry) noexcept:
    cdef TransactionBody* body = &entry.body
    memset(record, 0, sizeof(Record))
    record.key = record_key(&body.trace)
    record.acquirer = body.trace.acquirer
    record.pan = pan_prefix(body.pan_hash)
    record.sequence = entry.sequence
    record.at = entry.at
    record.hold_expires_at = body.hold_expires_at
    record.window = WINDOW_QUIET
    record.account = body.account
    record.card = body.card
    record.flags = body.flags
    memcpy(record.rrn, body.rrn, 12)
    memcpy(record.response_code, body.response_code, 2)
    if entry.kind == HELD or entry.kind == ADVISED_HOLD:
        record.status = RECORD_HOLD_OPEN if body.amount else RECORD_CLOSED
        record.remaining = body.amount
        record.window = WINDOW_MONEY if body.amount else WINDOW_QUIET
    elif entry.kind == POSTED or entry.kind == ADVISED_POSTING:
        record.status = RECORD_POSTED
        record.remaining = body.amount
        record.window = WINDOW_MONEY
    else:
        record.status = RECORD_DECLINED


cdef int _remember_reversal(
    State state, Record* reversal, Transaction entry
) except -1:
    """Leaves a mark where the original would be, for when it comes late."""
    cdef Record mark = reversal[0]
    cdef int alike = 0
    cdef uint32_t index = state.find_record(
        &entry.body.original, reversal.pan, entry.body.rrn, entry.at, &alike
    )
    # With several that field 90 could mean, a mark would decline a fourth.
    if index != NONE or state.is_remembered(
        &entry.body.original, reversal.pan, entry.at
    ):
        return 0
    mark.key = record_key(&entry.body.original)
    mark.acquirer = entry.body.original.acquirer
    mark.sequence = 0
    mark.status = RECORD_REVERSED_UNSEEN
    state.add_record(&mark)
    return 0


cdef void _forget_reversal(
    State state, Record* late, TransactionBody* body
) noexcept:
    """The late original itself takes the place of the mark: its key matches no more."""
    cdef int alike = 0
    cdef uint32_t index = state.find_record(
        &body.trace, late.pan, body.rrn, late.at, &alike
    )
    if index != NONE and state.records[index].status == RECORD_REVERSED_UNSEEN:
        state.records[index].status = RECORD_DECLINED
        memset(state.records[index].rrn, 0xFF, 12)
