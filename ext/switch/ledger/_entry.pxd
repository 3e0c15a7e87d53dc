# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    ENTRY_VERSION = 1
    ENTRY_VERSION_KEYED = 2     # with the key of the operation that it came of
    ENTRY_SIZE_MAX = 512
    ACCOUNT_NAME_SIZE_MAX = 32
    MERCHANT_SIZE_MAX = 15
    MERCHANT_NAME_SIZE_MAX = 40
    TEXT_SIZE_MAX = 87          # the three above, one after the other
    PAN_HASH_SIZE = 16
    SEALED_PAN_SIZE_MAX = 40
    OPERATOR_SIZE_MAX = 32
    REASON_SIZE_MAX = 200
    CHANGE_TEXT_SIZE_MAX = 264  # account name, operator, reason
    RRN_SIZE = 12
    OPERATION_HASH_SIZE = 16
    NO_INDEX = 0x7FFFFFFF       # no account, no card: the PAN is not one of ours

cdef enum Kind:
    ACCOUNT_OPENED = 1
    CARD_ISSUED = 2
    HELD = 3
    POSTED = 4
    DECLINED = 5
    ADVISED_HOLD = 6
    ADVISED_POSTING = 7
    ADVICE_RECORDED = 8
    REVERSED = 9
    REVERSAL_REMEMBERED = 10
    HOLD_EXPIRED = 11
    WITHDRAWN = 12
    LIMIT_CHANGED = 13
    ADJUSTED = 14
    CARD_STATUS_CHANGED = 15
    CARD_EXPIRY_CHANGED = 16
    ACCOUNT_STATUS_CHANGED = 17

cdef enum Flag:
    FLAG_APPROVED = 1           # answered so: a repeat carries field 38 again
    FLAG_FORCED = 2             # available funds are below zero after it (advices only)
    FLAG_CREDIT = 4             # the money goes to the cardholder (returns)
    FLAG_REVERSED_BEFORE = 8    # its reversal came first

cdef packed struct EntryHeader:
    uint8_t kind
    uint8_t version
    uint16_t size
    int64_t at

cdef packed struct AccountBody:
    int64_t balance
    int64_t credit_limit
    uint16_t currency

cdef packed struct CardBody:
    uint8_t pan_hash[16]
    uint32_t account
    uint16_t expiry
    uint8_t status
    uint8_t last_four[4]
    uint8_t sealed_pan_size

cdef packed struct ChangeBody:
    uint8_t pan_hash[16]        # zeros: it is about the account
    uint32_t account
    uint32_t card
    int64_t balance_change
    int64_t value               # credit limit, balance, status or YYMM, as it is now
    int64_t previous            # and as it was
    uint16_t currency
    uint8_t last_four[4]

# Of the texts of an account, a card or a change; they follow one after the other.
cdef packed struct TextSizes:
    uint8_t name
    uint8_t operator_name
    uint8_t reason

# By which an operation is known when it is asked for again. Hashes: neither the key
# that the operator chose nor what was asked for is kept.
cdef packed struct OperationKey:
    uint8_t key[16]
    uint8_t asked[16]

cdef packed struct Trace:
    uint64_t transmitted        # field 7, MMDDhhmmss as a number
    uint64_t acquirer           # field 32 as a number, 0: absent
    uint32_t stan               # field 11
    uint16_t mti                # BCD nibbles, repeat digit cleared: 0x0100
    uint8_t scheme              # the link's scheme number: duplicates are per scheme

cdef enum:
    MESSAGE_TYPES = 8
    NETWORK_TYPE = 6            # in no entry
    OTHER_TYPE = 7

cdef inline int message_type_number(uint32_t mti) noexcept:
    """Of an MTI without its repeat digit."""
    if mti == 0x0100:
        return 0
    if mti == 0x0200:
        return 1
    if mti == 0x0120:
        return 2
    if mti == 0x0220:
        return 3
    if mti == 0x0400:
        return 4
    if mti == 0x0420:
        return 5
    if mti == 0x0800:
        return NETWORK_TYPE
    return OTHER_TYPE

cdef packed struct TransactionBody:
    uint8_t pan_hash[16]
    uint32_t account
    uint32_t card
    int64_t amount
    int64_t balance_change
    int64_t held_change
    int64_t transaction_amount
    int64_t hold_expires_at
    uint64_t original_sequence
    Trace trace
    Trace original
    uint32_t processing_code
    uint16_t merchant_category
    uint16_t currency
    uint16_t transaction_currency
    uint8_t flags
    uint8_t response_code[2]
    uint8_t last_four[4]
    uint8_t rrn[12]
    uint8_t terminal[8]
    uint8_t name_size
    uint8_t merchant_size
    uint8_t merchant_name_size


cdef class Entry:
    cdef readonly uint64_t sequence
    cdef readonly int64_t at
    cdef readonly int kind
    # Writes the packed form; `out` has room for ENTRY_SIZE_MAX bytes. Returns the size.
    cdef Py_ssize_t pack(self, uint8_t* out) except -1
    cdef int unpack(self, const uint8_t* data, Py_ssize_t size) except -1


cdef class Attributed(Entry):
    cdef TextSizes sizes
    cdef uint8_t text[CHANGE_TEXT_SIZE_MAX]     # account name, operator, reason
    cdef bint is_keyed
    cdef OperationKey operation
    cdef int put_texts(self, object account, object operator, object reason) except -1
    cdef int put_key(self, bytes operation_key) except -1
    # Where the body of the kind is, and its size.
    cdef uint8_t* body_start(self) noexcept
    cdef Py_ssize_t body_size(self) noexcept
    cdef void put_header(self, Py_ssize_t size, uint8_t* out) noexcept
    cdef Py_ssize_t unpack_start(self, const uint8_t* data, Py_ssize_t size) except -1


cdef class AccountOpened(Attributed):
    cdef AccountBody body


cdef class CardIssued(Attributed):
    cdef CardBody body
    cdef uint8_t sealed[SEALED_PAN_SIZE_MAX]


cdef class Change(Attributed):
    cdef ChangeBody body


cdef class Transaction(Entry):
    cdef TransactionBody body
    cdef uint8_t text[TEXT_SIZE_MAX]    # account name, merchant, merchant name


cdef Entry unpack_entry(const uint8_t* data, Py_ssize_t size, uint64_t sequence)
