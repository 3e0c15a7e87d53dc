# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The event of a transaction as JSON, straight from its entry.

Making an `Event` first costs three times as much, and draining a backlog is hardly
anything else. It is byte for byte what msgspec makes of `switch.publish.events.Event`,
in the same order and with the same left out; tests/unit/publish/test_event_json.py
holds the two together.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, strlen

from switch.ledger._decide cimport write_approval_code
from switch.ledger._entry cimport (
    FLAG_APPROVED, FLAG_CREDIT, FLAG_FORCED, FLAG_REVERSED_BEFORE, HELD, TEXT_SIZE_MAX,
    WITHDRAWN, Transaction, TransactionBody,
)
from switch.publish._event_fields cimport (
    TIME_SIZE, _Times, _TransmittedTimes, currency_of,
)

from switch.ledger import _entry as entries
from switch.publish import _event_fields as event_fields

cdef enum:
    ESCAPED_SIZE_MAX = 6    # \u0000

# Texts in an entry of a fixed size: response code, RRN, terminal, last four digits.
assert ESCAPED_SIZE_MAX * (TEXT_SIZE_MAX + 2 + 12 + 8 + 4) + 2000 < EVENT_JSON_SIZE_MAX

cdef dict APPROVED = event_fields.APPROVED
# By the number of the kind: what stands between the id and the account.
cdef list KINDS = [
    f'","kind":"{entries.KIND_NAMES[kind]}","account":' if kind >= HELD else ""
    for kind in range(WITHDRAWN + 1)
]
cdef list APPROVALS = [
    {True: "true", False: "false", None: "null"}[APPROVED.get(name)]
    for name in [entries.KIND_NAMES.get(kind) for kind in range(WITHDRAWN + 1)]
]

cdef _Times _times = _Times()
cdef _Times _expiry_times = _Times()
cdef _TransmittedTimes _transmitted_times = _TransmittedTimes()


cdef inline uint8_t* _put(uint8_t* at, const char* text) noexcept:
    cdef size_t size = strlen(text)
    memcpy(at, text, size)
    return at + size


cdef inline uint8_t* _put_ascii(uint8_t* at, str text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    memcpy(at, PyUnicode_DATA(text), size)
    return at + size


cdef inline uint8_t* _put_digits(uint8_t* at, uint64_t number, int width) noexcept:
    """Decimal digits, zeros before the number."""
    cdef uint8_t digits[20]
    cdef int first = 20
    while first > 20 - width or number:
        first -= 1
        digits[first] = <uint8_t> (48 + number % 10)
        number //= 10
    memcpy(at, digits + first, 20 - first)
    return at + (20 - first)


cdef inline uint8_t* _put_number(uint8_t* at, int64_t number) noexcept:
    if number < 0:
        at[0] = c'-'
        # The lowest has no positive twin, but for one without a sign.
        return _put_digits(at + 1, <uint64_t> 0 - <uint64_t> number, 1)
    return _put_digits(at, <uint64_t> number, 1)


cdef inline uint8_t* _put_escaped(
    uint8_t* at, const uint8_t* data, Py_ssize_t size
) noexcept:
    """The inside of a JSON string, of Latin-1."""
    cdef Py_ssize_t i
    cdef uint8_t byte
    for i in range(size):
        byte = data[i]
        if 0x20 <= byte < 0x80 and byte != c'"' and byte != c'\\':
            at[0] = byte
            at += 1
        elif byte >= 0x80:
            at[0] = 0xC0 | byte >> 6
            at[1] = 0x80 | byte & 0x3F
            at += 2
        else:
            at = _put_escape(at, byte)
    return at


cdef uint8_t* _put_escape(uint8_t* at, uint8_t byte) noexcept:
    cdef const char* hexadecimal = b"0123456789abcdef"
    at[0] = c'\\'
    if byte == c'"' or byte == c'\\':
        at[1] = byte
    elif byte == 8:
        at[1] = c'b'
    elif byte == 9:
        at[1] = c't'
    elif byte == 10:
        at[1] = c'n'
    elif byte == 12:
        at[1] = c'f'
    elif byte == 13:
        at[1] = c'r'
    else:
        at = _put(at, b"\\u00")
        at[0] = hexadecimal[byte >> 4]
        at[1] = hexadecimal[byte & 15]
    return at + 2


cdef inline uint8_t* _put_filled(
    uint8_t* at, const char* name, const uint8_t* data, Py_ssize_t size
) noexcept:
    """A text without the fill at its end; left out if nothing is left."""
    size = _filled_size(data, size)
    if not size:
        return at
    at = _put_escaped(_put(at, name), data, size)
    at[0] = c'"'
    return at + 1


cdef inline Py_ssize_t _filled_size(const uint8_t* data, Py_ssize_t size) noexcept:
    while size and (data[size - 1] == c' ' or data[size - 1] == 0):
        size -= 1
    return size


cdef inline uint8_t* _put_always(
    uint8_t* at, const char* name, const uint8_t* data, Py_ssize_t size
) noexcept:
    """The same, but null if nothing is left."""
    size = _filled_size(data, size)
    at = _put(at, name)
    if not size:
        return _put(at, b"null")
    at[0] = c'"'
    at = _put_escaped(at + 1, data, size)
    at[0] = c'"'
    return at + 1


cdef inline uint8_t* _put_code(
    uint8_t* at, const char* name, uint64_t number, int width
) noexcept:
    at = _put_digits(_put(at, name), number, width)
    at[0] = c'"'
    return at + 1


cdef inline uint8_t* _put_change(
    uint8_t* at, const char* name, int64_t number
) noexcept:
    """Left out if it is zero."""
    return _put_number(_put(at, name), number) if number else at


cdef inline uint8_t* _put_hexadecimal(
    uint8_t* at, const uint8_t* data, Py_ssize_t size
) noexcept:
    cdef const char* digits = b"0123456789abcdef"
    cdef Py_ssize_t i
    for i in range(size):
        at[2 * i] = digits[data[i] >> 4]
        at[2 * i + 1] = digits[data[i] & 15]
    return at + 2 * size


cdef inline bint _is_zero(const uint8_t* data, Py_ssize_t size) noexcept:
    cdef uint8_t seen = 0
    cdef Py_ssize_t i
    for i in range(size):
        seen |= data[i]
    return not seen


cdef uint8_t* _put_account(
    Transaction entry, uint8_t* at
) except NULL:
    """The account, and what is null without one."""
    cdef TransactionBody* body = &entry.body
    at = _put_ascii(at, <str> KINDS[entry.kind])
    if not body.name_size:
        return _put(at, b'null,"amount":null,"currency":null')
    at[0] = c'"'
    at = _put_escaped(at + 1, entry.text, body.name_size)
    at = _put_number(_put(at, b'","amount":'), body.amount)
    at = _put_ascii(_put(at, b',"currency":"'), currency_of(body.currency))
    at[0] = c'"'
    return at + 1


cdef uint8_t* _put_card(
    Transaction entry, int shard, uint8_t* at
) except NULL:
    cdef TransactionBody* body = &entry.body
    cdef uint8_t code[6]
    if body.flags & FLAG_APPROVED:
        write_approval_code(entry.sequence, shard, code)
        at = _put_filled(at, b',"approval_code":"', code, 6)
    if not _is_zero(body.pan_hash, 16):
        at = _put_hexadecimal(_put(at, b',"card_token":"'), body.pan_hash, 16)
        at[0] = c'"'
        at += 1
    return _put_filled(at, b',"last_four":"', body.last_four, 4)


cdef uint8_t* _put_message(Transaction entry, uint8_t* at) except NULL:
    """What the message said."""
    cdef TransactionBody* body = &entry.body
    cdef const uint8_t* merchant = entry.text + body.name_size
    cdef int nibble
    at = _put(at, b',"mti":"')
    for nibble in range(4):
        at[nibble] = <uint8_t> (48 + (body.trace.mti >> (12 - 4 * nibble) & 15))
    at = _put_code(at + 4, b'","processing_code":"', body.processing_code, 6)
    at = _put_code(at, b',"transmitted":"', body.trace.transmitted, 10)
    if body.trace.acquirer:
        at = _put_code(at, b',"acquirer":"', body.trace.acquirer, 1)
    at = _put_change(at, b',"scheme":', body.trace.scheme)
    at = _put_filled(at, b',"terminal":"', body.terminal, 8)
    at = _put_filled(at, b',"merchant":"', merchant, body.merchant_size)
    at = _put_filled(
        at, b',"merchant_name":"', merchant + body.merchant_size,
        body.merchant_name_size,
    )
    if body.merchant_category:
        at = _put_code(at, b',"mcc":"', body.merchant_category, 4)
    at = _put_change(at, b',"transaction_amount":', body.transaction_amount)
    if body.transaction_currency:
        at = _put(at, b',"transaction_currency":"')
        at = _put_ascii(at, currency_of(body.transaction_currency))
        at[0] = c'"'
        at += 1
    return at


cdef uint8_t* _put_rest(Transaction entry, int shard, uint8_t* at) except NULL:
    cdef TransactionBody* body = &entry.body
    cdef str transmitted_at
    if body.hold_expires_at:
        at = _put(at, b',"hold_expires_at":"')
        memcpy(at, _expiry_times.made(body.hold_expires_at), TIME_SIZE)
        at[TIME_SIZE] = c'"'
        at += TIME_SIZE + 1
    if body.original_sequence:
        at = _put_number(_put(at, b',"original_id":"'), shard)
        at[0] = c'-'
        at = _put_digits(at + 1, body.original_sequence, 1)
        at[0] = c'"'
        at += 1
    if body.original.mti:
        at = _put_code(at, b',"original_stan":"', body.original.stan, 6)
    if body.flags & FLAG_FORCED:
        at = _put(at, b',"forced":true')
    if body.flags & FLAG_CREDIT:
        at = _put(at, b',"credit":true')
    if body.flags & FLAG_REVERSED_BEFORE:
        at = _put(at, b',"reversed_before":true')
    transmitted_at = _transmitted_times.of(body.trace.transmitted, entry.at)
    if transmitted_at is not None:
        at = _put_ascii(_put(at, b',"transmitted_at":"'), transmitted_at)
        at[0] = c'"'
        at += 1
    return at


cdef EventJson write_event(
    Transaction entry, int shard, uint64_t commit, uint8_t* out
) except *:
    cdef TransactionBody* body = &entry.body
    cdef EventJson written
    cdef uint8_t* at = _put_number(_put(out, b'{"id":"'), shard)
    at[0] = c'-'
    at = _put_digits(at + 1, entry.sequence, 1)
    written.id_size = at - out - ID_OFFSET
    at = _put_account(entry, at)
    at = _put_ascii(_put(at, b',"approved":'), <str> APPROVALS[entry.kind])
    at = _put_always(at, b',"response_code":', body.response_code, 2)
    at = _put_code(at, b',"stan":"', body.trace.stan, 6)
    at = _put_always(at, b',"rrn":', body.rrn, 12)
    at = _put(at, b',"at":"')
    memcpy(at, _times.made(entry.at), TIME_SIZE)
    at = _put_digits(_put(at + TIME_SIZE, b'","commit":'), commit, 1)
    at = _put_change(at, b',"balance_change":', body.balance_change)
    at = _put_change(at, b',"held_change":', body.held_change)
    at = _put_card(entry, shard, at)
    at = _put_message(entry, at)
    at = _put_rest(entry, shard, at)
    at[0] = c'}'
    written.size = at + 1 - out
    assert written.size <= EVENT_JSON_SIZE_MAX
    return written


def event_json(Transaction entry not None, int shard, uint64_t commit):
    """The event of a transaction, as JSON."""
    cdef uint8_t out[EVENT_JSON_SIZE_MAX]
    cdef EventJson written = write_event(entry, shard, commit, out)
    return PyBytes_FromStringAndSize(<const char*> out, written.size)
