# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""decide(state, request, now): what the answer is, and what has to be written for it.

Pure: no I/O, no clock, no chance, and the state is only looked at. `now` is
milliseconds since 1970 (UTC). The entry of a decision has to be applied and made
durable before its answer may leave.

Response codes are those of ISO 8583:1987, field 39.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

cimport cython

from switch.ledger._entry cimport (
    ADVICE_RECORDED, ADVISED_HOLD, ADVISED_POSTING, DECLINED, FLAG_APPROVED,
    FLAG_CREDIT, FLAG_FORCED, FLAG_REVERSED_BEFORE, HELD, HOLD_EXPIRED, NO_INDEX,
    POSTED, REVERSAL_REMEMBERED, REVERSED, TEXT_SIZE_MAX, WITHDRAWN, Kind,
    TransactionBody,
)
from switch.ledger._request cimport (
    ABSENT, AUTHORISATION, AUTHORISATION_ADVICE, FINANCIAL, REVERSAL,
)
from switch.ledger._state cimport (
    ACCOUNT_BLOCKED, ACCOUNT_CLOSED, CARD_CLOSED, CARD_LOST, CARD_RESTRICTED,
    CARD_STOLEN, NONE, RECORD_HOLD_OPEN, RECORD_POSTED, RECORD_REVERSED_UNSEEN,
    Account, Card, Record, pan_prefix,
)

cdef enum:
    EXPIRIES_MAX = 1000         # holds ended by one sweep of a shard
    # Transactions that differ in field 37 alone: a peer that varies nothing else would
    # make every look-up walk all of them.
    ALIKE_MAX = 16

# of a balance or of what is held; leaves room to add any amount (a signed number: an
# enum constant this large would be unsigned in C)
cdef int64_t MONEY_MAX = 1_000_000_000_000_000_000

cdef enum Direction:
    UNSUPPORTED = 0
    UNKNOWN = 1
    DEBIT = 2
    CREDIT = 3

# What the first two digits of field 3 do to the account (ISO 8583:1987, A.7 in 4.3.8).
cdef Direction DIRECTIONS[100]
cdef int _code
for _code in range(100):
    DIRECTIONS[_code] = UNKNOWN
for _code in (0, 1, 9, 11):         # purchase, cash, purchase with cash, quasi-cash
    DIRECTIONS[_code] = DEBIT
DIRECTIONS[20] = CREDIT             # returned goods
for _code in (2, 3, 10, 17, 18, 19, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31, 32, 33,
              38, 39, 40, 48, 49, 50):
    DIRECTIONS[_code] = UNSUPPORTED


@cython.freelist(8)
cdef class Decision:
    """The answer, and the entry that justifies it (none for a repeat, or for 91)."""

    @property
    def entries(self):
        """What has to be written, in order."""
        return () if self.entry is None else (self.entry,)

    @property
    def response_code(self):
        """Field 39."""
        return PyBytes_FromStringAndSize(<char*> self.code, 2).decode("ascii")

    @property
    def approval_code(self):
        """Field 38, or None if this is not an approval."""
        if not self.approved:
            return None
        return PyBytes_FromStringAndSize(<char*> self.approval, 6).decode("ascii")


cdef void write_approval_code(uint64_t sequence, int shard, uint8_t* out) noexcept:
    """Field 38 from where the entry is: base 36, so two thousand million differ."""
    cdef uint64_t number = sequence * 1024 + <uint64_t> shard
    cdef int i
    cdef uint8_t digit
    for i in range(5, -1, -1):
        digit = <uint8_t> (number % 36)
        out[i] = 48 + digit if digit < 10 else 55 + digit
        number //= 36


def approval_code(int shard, uint64_t sequence):
    """Field 38 of an approval by this entry."""
    cdef uint8_t code[6]
    write_approval_code(sequence, shard, code)
    return PyBytes_FromStringAndSize(<char*> code, 6).decode("ascii")


cpdef Decision decide(State state, Request request, int64_t now):
    """The decision on one request, advice or reversal, in the order of the checks."""
    cdef uint64_t pan = pan_prefix(request.body.pan_hash)
    cdef int alike = 0
    cdef uint32_t seen
    cdef bint reversed_before = False
    # What a wrong clock once wrote must not make a card expire.
    cdef int today = _year_and_month(now)
    if now < state.last_at:
        now = state.last_at
    seen = state.find_record(
        &request.body.trace, pan, request.body.rrn, now, &alike
    )
    if seen != NONE:
        if state.records[seen].status != RECORD_REVERSED_UNSEEN:
            return _repeated(state, &state.records[seen])
        reversed_before = True
    if alike >= ALIKE_MAX:
        return undecided(b"94")
    if request.kind == REVERSAL:
        return _reverse(state, request, now, pan)
    if request.kind == AUTHORISATION or request.kind == FINANCIAL:
        return _authorise(state, request, now, today, reversed_before)
    return _take_advice(state, request, now, reversed_before)


cdef Decision _authorise(
    State state, Request request, int64_t now, int today, bint reversed_before
):
    """0100 and 0200: the issuer is asked."""
    cdef Transaction entry = _entry_for(state, request, now)
    cdef Direction direction = _direction(request)
    cdef Account* account
    cdef Card* card
    cdef const char* refusal
    cdef int64_t amount
    if reversed_before:
        entry.body.flags |= FLAG_REVERSED_BEFORE
        return _decline(entry, b"05")
    if direction == UNKNOWN:
        return _decline(entry, b"12")
    if direction == UNSUPPORTED:
        return _decline(entry, b"57")
    if entry.body.card == NO_INDEX:
        return _decline(entry, b"14")
    card = &state.cards_table[entry.body.card]
    account = &state.accounts_table[card.account]
    refusal = _refusal(account, card, request, today)
    if refusal != NULL:
        return _decline(entry, refusal)
    amount = _amount_in(account, request)
    if amount == ABSENT:
        return _decline(entry, b"57")
    entry.body.amount = amount
    if amount == 0:
        return _decline(entry, b"13")
    if direction == CREDIT:
        entry.body.flags |= FLAG_CREDIT
        if request.kind == AUTHORISATION:
            # a return is approved now and paid when it is posted
            entry.body.amount = 0
            return _approve(state, entry, HELD)
        if account.balance > MONEY_MAX:
            return _decline(entry, b"13")
        entry.body.balance_change = amount
        return _approve(state, entry, POSTED)
    if account.balance + account.credit_limit - account.held < amount:
        return _decline(entry, b"51")
    if request.kind == FINANCIAL:
        entry.body.balance_change = -amount
        return _approve(state, entry, POSTED)
    if not state.takes_holds():
        return undecided(b"91")
    entry.body.held_change = amount
    entry.body.hold_expires_at = now + state.limits.hold_lifetime_ms
    return _approve(state, entry, HELD)


cdef Decision _take_advice(
    State state, Request request, int64_t now, bint reversed_before
):
    """0120 and 0220: somebody else decided; what was approved counts, limit or not."""
    cdef Transaction entry = _entry_for(state, request, now)
    cdef Direction direction = _direction(request)
    cdef Account* account = NULL
    cdef int64_t amount = ABSENT
    memcpy(entry.body.response_code, b"00", 2)
    if reversed_before:
        entry.body.flags |= FLAG_REVERSED_BEFORE
        return _answer(state, entry, ADVICE_RECORDED)
    if entry.body.account != NO_INDEX:
        account = &state.accounts_table[entry.body.account]
        amount = _amount_in(account, request)
    if (
        amount == ABSENT or not request.advice_approved
        or (direction != DEBIT and direction != CREDIT)
        or _beyond_money_max(account)
    ):
        return _answer(state, entry, ADVICE_RECORDED)
    entry.body.amount = amount
    if request.kind == AUTHORISATION_ADVICE:
        if direction == CREDIT:
            entry.body.flags |= FLAG_CREDIT
            entry.body.amount = 0
        elif amount and not state.takes_holds():
            return undecided(b"91")
        else:
            entry.body.held_change = amount
            entry.body.hold_expires_at = now + state.limits.hold_lifetime_ms
        _mark_forced(account, entry)
        return _answer(state, entry, ADVISED_HOLD)
    if direction == CREDIT:
        entry.body.flags |= FLAG_CREDIT
        entry.body.balance_change = amount
    else:
        entry.body.balance_change = -amount
        _complete_hold(state, request, entry)
    _mark_forced(account, entry)
    return _answer(state, entry, ADVISED_POSTING)


cdef Decision _reverse(State state, Request request, int64_t now, uint64_t pan):
    """0400 and 0420: always answered 00; gives back what is left of the original."""
    cdef Transaction entry = _entry_for(state, request, now)
    cdef uint32_t index = state.find_original(
        &request.body.original, pan, request.body.rrn, now
    )
    cdef Record* original
    cdef int64_t back
    memcpy(entry.body.response_code, b"00", 2)
    if index == NONE or state.records[index].status == RECORD_REVERSED_UNSEEN:
        return _answer(state, entry, REVERSAL_REMEMBERED)
    original = &state.records[index]
    entry.body.original_sequence = original.sequence
    entry.body.account = original.account
    if original.account != NO_INDEX:
        _name_account(state, entry)
        back = _left_to_reverse(
            &state.accounts_table[original.account], original, request
        )
        if original.status == RECORD_HOLD_OPEN:
            entry.body.amount = back
            entry.body.held_change = -back
        elif original.status == RECORD_POSTED:
            entry.body.amount = back
            entry.body.balance_change = -back if original.flags & FLAG_CREDIT else back
            entry.body.flags |= original.flags & FLAG_CREDIT
    return _answer(state, entry, REVERSED)


def decide_expiries(State state not None, int64_t now):
    """The ends of the holds whose time is over: a list of entries, oldest first.

    Bounded: what is left over is for the next sweep.
    """
    cdef uint32_t index = state.hold_head
    cdef uint64_t sequence = state.sequence
    cdef list entries = []
    cdef Record* record
    if now < state.last_at:
        now = state.last_at
    while index != NONE and len(entries) < EXPIRIES_MAX:
        record = &state.records[index]
        if record.hold_expires_at > now:
            break
        sequence += 1
        entries.append(_expiry(state, record, sequence, now))
        index = record.next_hold
    return entries


def decide_withdrawal(State state not None, Transaction approval not None, int64_t now):
    """What takes back an approval that was not answered by its deadline.

    What is left of its hold or posting goes back, and its repeats get 91 from then on.
    None if there is nothing to take back: the transaction is not remembered any more.
    """
    cdef uint32_t index = state.find_sequence(
        &approval.body.trace, pan_prefix(approval.body.pan_hash), approval.sequence
    )
    cdef Transaction entry
    if index == NONE or not state.records[index].flags & FLAG_APPROVED:
        return None
    entry = Transaction.__new__(Transaction)
    entry.at = max(now, state.last_at)
    entry.sequence = state.sequence + 1
    memcpy(entry.text, approval.text, TEXT_SIZE_MAX)
    entry.body = approval.body
    _take_back(entry, &state.records[index])
    return entry


cpdef Decision decide_void(State state, Request request, int64_t now):
    """91 for a request of the kind that asks, whatever became of it: whoever passed it
    on could not learn that in time, and has said 91.

    What an approval took goes back. What was declined stays so. One that has not come
    yet is declined now: it may be on its way still. Its repeats get the same.
    """
    cdef uint64_t pan = pan_prefix(request.body.pan_hash)
    cdef int alike = 0
    cdef uint32_t seen
    cdef Record* record
    cdef Transaction entry
    assert request.kind == AUTHORISATION or request.kind == FINANCIAL
    if now < state.last_at:
        now = state.last_at
    seen = state.find_record(
        &request.body.trace, pan, request.body.rrn, now, &alike
    )
    entry = _entry_for(state, request, now)
    if seen == NONE:
        return undecided(b"94") if alike >= ALIKE_MAX else _decline(entry, b"91")
    record = &state.records[seen]
    if record.status == RECORD_REVERSED_UNSEEN:
        entry.body.flags |= FLAG_REVERSED_BEFORE
        return _decline(entry, b"91")
    if not record.flags & FLAG_APPROVED:
        return _repeated(state, record)
    entry.body.account = record.account
    entry.body.card = record.card
    entry.body.currency = state.accounts_table[record.account].currency
    _name_account(state, entry)
    _take_back(entry, record)
    return _answer(state, entry, WITHDRAWN)


cdef void _take_back(Transaction entry, Record* record) noexcept:
    """What an approval took goes back, and its repeats get 91 from then on."""
    cdef TransactionBody* body = &entry.body
    entry.kind = WITHDRAWN
    body.original = body.trace
    body.original_sequence = record.sequence
    body.flags = record.flags & FLAG_CREDIT
    memcpy(body.response_code, b"91", 2)
    body.amount = body.balance_change = body.held_change = body.hold_expires_at = 0
    if record.status == RECORD_HOLD_OPEN:
        body.amount = record.remaining
        body.held_change = -record.remaining
    elif record.status == RECORD_POSTED:
        body.amount = record.remaining
        body.balance_change = (
            -record.remaining if record.flags & FLAG_CREDIT else record.remaining
        )


cdef Transaction _expiry(
    State state, Record* record, uint64_t sequence, int64_t now
):
    cdef Transaction entry = Transaction.__new__(Transaction)
    cdef TransactionBody* body = &entry.body
    cdef uint64_t kind = record.key // 10000000000000000
    memset(body, 0, sizeof(TransactionBody))
    entry.kind = HOLD_EXPIRED
    entry.at = now
    entry.sequence = sequence
    # the hold's own trace, taken apart again (see record_key)
    body.trace.stan = <uint32_t> (record.key % 1000000)
    body.trace.transmitted = record.key // 1000000 % 10000000000
    body.trace.scheme = <uint8_t> (kind % 128)
    body.trace.mti = 0x0120 if kind // 128 == 2 else 0x0100
    body.trace.acquirer = record.acquirer
    body.original = body.trace
    body.original_sequence = record.sequence
    body.account = record.account
    body.card = record.card
    if record.card != NO_INDEX:
        memcpy(body.pan_hash, state.cards_table[record.card].pan_hash, 16)
        memcpy(body.last_four, state.cards_table[record.card].last_four, 4)
    memcpy(body.rrn, record.rrn, 12)
    body.amount = record.remaining
    body.held_change = -record.remaining
    body.currency = state.accounts_table[record.account].currency
    _name_account(state, entry)
    return entry


# --- the parts of a decision, each straight on ------------------------------------


cdef Transaction _entry_for(State state, Request request, int64_t now):
    """The entry with what the request says and whose card it is; nothing decided."""
    cdef Transaction entry = Transaction.__new__(Transaction)
    cdef uint32_t card = state.find_card(request.body.pan_hash)
    entry.sequence = state.sequence + 1
    entry.at = now
    entry.body = request.body
    if entry.body.transaction_amount == ABSENT:
        entry.body.transaction_amount = 0
    if card != NONE:
        entry.body.card = card
        entry.body.account = state.cards_table[card].account
        entry.body.currency = state.accounts_table[entry.body.account].currency
        memcpy(entry.body.last_four, state.cards_table[card].last_four, 4)
        _name_account(state, entry)
    _append_merchant(entry, request)
    return entry


cdef void _name_account(State state, Transaction entry) noexcept:
    cdef Account* account = &state.accounts_table[entry.body.account]
    cdef Py_ssize_t old = entry.body.name_size
    cdef Py_ssize_t rest = (
        <Py_ssize_t> entry.body.merchant_size + entry.body.merchant_name_size
    )
    if old == 0:
        _make_space(entry, account.name_size, rest)
    memcpy(entry.text, state.names + account.name_offset, account.name_size)
    entry.body.name_size = account.name_size


cdef void _make_space(Transaction entry, Py_ssize_t size, Py_ssize_t rest) noexcept:
    cdef Py_ssize_t i
    for i in range(rest - 1, -1, -1):
        entry.text[size + i] = entry.text[i]


cdef void _append_merchant(Transaction entry, Request request) noexcept:
    cdef uint8_t* at = entry.text + entry.body.name_size
    memcpy(at, request.merchant, request.body.merchant_size)
    at += request.body.merchant_size
    memcpy(at, request.merchant_name, request.body.merchant_name_size)


cdef inline Direction _direction(Request request) noexcept:
    cdef uint32_t code = request.body.processing_code // 10000
    return DIRECTIONS[code] if code < 100 else UNKNOWN


cdef const char* _refusal(
    Account* account, Card* card, Request request, int today
) noexcept:
    """Field 39 if this card may not be used like this, else NULL; `today` is YYMM."""
    if account.status == ACCOUNT_CLOSED or card.status == CARD_CLOSED:
        return b"14"
    if card.status == CARD_LOST:
        return b"41"
    if card.status == CARD_STOLEN:
        return b"43"
    if account.status == ACCOUNT_BLOCKED or card.status == CARD_RESTRICTED:
        return b"62"
    if request.expiry != ABSENT and request.expiry != card.expiry:
        return b"54"
    if card.expiry < today:
        return b"54"
    return NULL


cdef int _year_and_month(int64_t now) noexcept:
    """YYMM of a moment (UTC): a card is good until its month is over.

    Days to a date by counting in 400-year eras that begin on 1 March.
    """
    cdef int64_t days = now // 86400000 + 719468
    cdef int64_t day_of_era = days % 146097
    cdef int64_t year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
    ) // 365
    cdef int64_t day_of_year = day_of_era - (
        365 * year_of_era + year_of_era // 4 - year_of_era // 100
    )
    cdef int64_t month_from_march = (5 * day_of_year + 2) // 153
    cdef int64_t month = (
        month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    )
    cdef int64_t year = year_of_era + (1 if month <= 2 else 0)
    return <int> (year % 100 * 100 + month)


cdef int64_t _amount_in(Account* account, Request request) noexcept:
    """The amount in the account's currency: field 6, else field 4, else ABSENT."""
    if request.billing_amount != ABSENT and (
        request.billing_currency == account.currency
    ):
        return request.billing_amount
    if request.body.transaction_amount != ABSENT and (
        request.body.transaction_currency == account.currency
    ):
        return request.body.transaction_amount
    return ABSENT


cdef int64_t _left_to_reverse(
    Account* account, Record* original, Request request
) noexcept:
    """What goes back: all that remains, or what field 95 does not keep of it."""
    cdef int64_t kept = ABSENT
    if request.replacement_amount == ABSENT:
        return original.remaining
    if request.billing_currency == account.currency:
        kept = request.replacement_billing_amount
    if kept == ABSENT and request.body.transaction_currency == account.currency:
        kept = request.replacement_amount
    if kept == ABSENT or kept >= original.remaining:
        # what is kept is not said in the account's currency: keep all of it
        return 0
    return original.remaining - kept


cdef void _complete_hold(State state, Request request, Transaction entry) noexcept:
    """A posting that names its authorisation (field 90) ends the hold of that one."""
    cdef uint32_t index
    if request.body.original.mti == 0:
        return
    index = state.find_original(
        &request.body.original, pan_prefix(request.body.pan_hash), request.body.rrn,
        entry.at,
    )
    if index == NONE or state.records[index].status != RECORD_HOLD_OPEN:
        return
    if state.records[index].account != entry.body.account:
        return
    entry.body.original_sequence = state.records[index].sequence
    entry.body.held_change = -state.records[index].remaining


cdef inline bint _beyond_money_max(Account* account) noexcept:
    return (
        account.balance > MONEY_MAX or account.balance < -MONEY_MAX
        or account.held > MONEY_MAX
    )


cdef void _mark_forced(Account* account, Transaction entry) noexcept:
    cdef int64_t available = (
        account.balance + entry.body.balance_change + account.credit_limit
        - account.held - entry.body.held_change
    )
    if available < 0:
        entry.body.flags |= FLAG_FORCED


cdef Decision _approve(State state, Transaction entry, Kind kind):
    cdef Decision decision
    memcpy(entry.body.response_code, b"00", 2)
    entry.body.flags |= FLAG_APPROVED
    decision = _answer(state, entry, kind)
    decision.approved = True
    decision.sequence = entry.sequence
    write_approval_code(entry.sequence, state.shard, decision.approval)
    return decision


cdef Decision _decline(Transaction entry, const char* response_code):
    cdef Decision decision = Decision.__new__(Decision)
    entry.kind = DECLINED
    memcpy(entry.body.response_code, response_code, 2)
    memcpy(decision.code, response_code, 2)
    decision.entry = entry
    return decision


cdef Decision _answer(State state, Transaction entry, Kind kind):
    cdef Decision decision = Decision.__new__(Decision)
    entry.kind = kind
    memcpy(decision.code, entry.body.response_code, 2)
    decision.entry = entry
    return decision


cdef Decision undecided(const char* response_code):
    """Refused without a trace: the request may come again and be decided then."""
    cdef Decision decision = Decision.__new__(Decision)
    memcpy(decision.code, response_code, 2)
    return decision


cdef Decision _repeated(State state, Record* record):
    """The first answer again, field 38 included."""
    cdef Decision decision = Decision.__new__(Decision)
    decision.repeated = True
    memcpy(decision.code, record.response_code, 2)
    if record.flags & FLAG_APPROVED:
        decision.approved = True
        decision.sequence = record.sequence
        write_approval_code(record.sequence, state.shard, decision.approval)
    return decision
