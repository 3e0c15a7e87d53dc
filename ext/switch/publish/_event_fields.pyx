# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The fields of a transaction's event. They are most of all events, and making them is
most of what publishing costs."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from switch.ledger._decide cimport write_approval_code
from switch.ledger._entry cimport (
    FLAG_APPROVED, FLAG_CREDIT, FLAG_FORCED, FLAG_REVERSED_BEFORE, Transaction,
    TransactionBody,
)
from switch.ledger._texts cimport (
    digits_of, filled_text_of, mti_of, text_of, token_of,
)

import datetime

from switch.ledger import _entry as entries, currencies, times

# Whether what was asked for, or told, came about. Of an advice somebody else decided;
# of a reversal or the end of a hold nobody was asked.
APPROVED = {
    "held": True,
    "posted": True,
    "declined": False,
    "advised_hold": True,
    "advised_posting": True,
    "advice_recorded": False,
    "withdrawn": False,
}

cdef enum:
    MS_PER_S = 1000

cdef dict KIND_NAMES = entries.KIND_NAMES
cdef tuple LETTERS = tuple([currencies.letters_of(number) for number in range(1000)])


cdef class _Times:
    def __cinit__(self):
        self.second = -1
        self.text[:] = b" " * SECOND_SIZE + b".000Z"

    cdef const uint8_t* made(self, int64_t at_ms) except NULL:
        cdef int64_t ms = at_ms % MS_PER_S
        cdef bytes text
        if at_ms // MS_PER_S != self.second:
            moment = datetime.datetime.fromtimestamp(at_ms // MS_PER_S, datetime.UTC)
            text = moment.strftime("%Y-%m-%dT%H:%M:%S").encode()
            assert len(text) == SECOND_SIZE, text
            memcpy(self.text, <const char*> text, SECOND_SIZE)
            self.second = at_ms // MS_PER_S
        self.text[SECOND_SIZE + 1] = <uint8_t> (48 + ms // 100)
        self.text[SECOND_SIZE + 2] = <uint8_t> (48 + ms // 10 % 10)
        self.text[SECOND_SIZE + 3] = <uint8_t> (48 + ms % 10)
        return self.text

    cdef str of(self, int64_t at_ms):
        return text_of(self.made(at_ms), TIME_SIZE)


cdef class _TransmittedTimes:
    def __cinit__(self):
        self.second = -1

    cdef str of(self, uint64_t field_7, int64_t at_ms):
        cdef int64_t second = at_ms // MS_PER_S
        if field_7 != self.field_7 or second != self.second:
            found = times.transmitted_at(digits_of(field_7, 10), second * MS_PER_S)
            self.text = None if found is None else _Times().of(found)
            self.field_7 = field_7
            self.second = second
        return self.text


cdef _Times _times = _Times()
cdef _Times _expiry_times = _Times()
cdef _TransmittedTimes _transmitted_times = _TransmittedTimes()


cdef str currency_of(int number):
    return LETTERS[number] if number < 1000 else currencies.letters_of(number)


def time_text(int64_t at_ms):
    """RFC 3339, UTC, of milliseconds since 1970."""
    return _times.of(at_ms)


def event_fields(Transaction entry not None, int shard, uint64_t commit):
    """The fields of `switch.publish.events.Event` for it, in their order."""
    cdef TransactionBody* body = &entry.body
    cdef const uint8_t* merchant = entry.text + body.name_size
    cdef uint8_t code[6]
    cdef str name = KIND_NAMES[entry.kind]
    cdef str account = text_of(entry.text, body.name_size) if body.name_size else None
    cdef str approval_code = None
    if body.flags & FLAG_APPROVED:
        write_approval_code(entry.sequence, shard, code)
        approval_code = text_of(code, 6)
    return (
        f"{shard}-{entry.sequence}",
        name,
        account,
        body.amount if account is not None else None,
        currency_of(body.currency) if account is not None else None,
        APPROVED.get(name),
        filled_text_of(body.response_code, 2),
        digits_of(body.trace.stan, 6),
        filled_text_of(body.rrn, 12),
        _times.of(entry.at),
        commit,
        body.balance_change,
        body.held_change,
        approval_code,
        token_of(body.pan_hash),
        filled_text_of(body.last_four, 4),
        mti_of(body.trace.mti),
        digits_of(body.processing_code, 6),
        digits_of(body.trace.transmitted, 10),
        digits_of(body.trace.acquirer, 1) if body.trace.acquirer else None,
        body.trace.scheme,
        filled_text_of(body.terminal, 8),
        filled_text_of(merchant, body.merchant_size),
        filled_text_of(merchant + body.merchant_size, body.merchant_name_size),
        digits_of(body.merchant_category, 4) if body.merchant_category else None,
        body.transaction_amount,
        currency_of(body.transaction_currency) if body.transaction_currency else None,
        _expiry_times.of(body.hold_expires_at) if body.hold_expires_at else None,
        f"{shard}-{body.original_sequence}" if body.original_sequence else None,
        digits_of(body.original.stan, 6) if body.original.mti else None,
        bool(body.flags & FLAG_FORCED),
        bool(body.flags & FLAG_CREDIT),
        bool(body.flags & FLAG_REVERSED_BEFORE),
        None,       # credit limit, expiry and status: of accounts and cards
        None,
        None,
        _transmitted_times.of(body.trace.transmitted, entry.at),
    )
