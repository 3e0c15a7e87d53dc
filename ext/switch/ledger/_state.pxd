# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from switch.ledger._entry cimport Attributed, OperationKey, Trace

cdef enum:
    # end of a list of records; also the most records a shard may have
    NONE = 0xFFFFFF

cdef enum RecordStatus:
    RECORD_FREE = 0
    RECORD_DECLINED = 1         # also: answered, and no money moved
    RECORD_HOLD_OPEN = 2
    RECORD_POSTED = 3
    RECORD_CLOSED = 4           # its money went back, or the hold ended
    RECORD_REVERSED_UNSEEN = 5  # only its reversal has been seen so far

# Which list of what is remembered a record is on. Two lists with a bound each, so that
# a flood of requests that are declined pushes out nothing of what moved money.
cdef enum Window:
    WINDOW_NONE = 0             # an open hold that has left it
    WINDOW_QUIET = 1            # moved no money
    WINDOW_MONEY = 2
    WINDOWS = 3

cdef enum CardStatus:
    CARD_ACTIVE = 0
    CARD_RESTRICTED = 1
    CARD_LOST = 2
    CARD_STOLEN = 3
    CARD_CLOSED = 4

cdef enum AccountStatus:
    ACCOUNT_ACTIVE = 0
    ACCOUNT_BLOCKED = 1
    ACCOUNT_CLOSED = 2

cdef struct Account:
    int64_t balance
    int64_t held
    int64_t credit_limit
    uint32_t name_offset
    uint16_t currency
    uint8_t name_size
    uint8_t status

cdef struct Card:
    uint8_t pan_hash[16]
    uint32_t account
    uint16_t expiry
    uint8_t status
    uint8_t sealed_pan_size
    uint8_t last_four[4]
    uint8_t sealed_pan[40]

# What is remembered of a transaction: enough to answer its repeat, to find it for
# its reversal, and to end its hold.
cdef struct Record:
    uint64_t key                # message type, scheme, field 7 and field 11, packed
    uint64_t acquirer
    uint64_t pan                # the first 8 bytes of the PAN's keyed hash
    uint64_t sequence           # of the entry that decided it
    int64_t at
    int64_t remaining           # of the hold or posting, in the account's currency
    int64_t hold_expires_at
    uint8_t rrn[12]
    uint32_t account
    uint32_t card
    uint32_t next_in_bucket
    uint32_t next_in_window
    uint32_t previous_hold
    uint32_t next_hold
    uint8_t response_code[2]
    uint8_t status
    uint8_t flags
    uint8_t window
    uint8_t reserved[3]

# What is remembered of an operation that came with a key.
cdef packed struct OperationRow:
    OperationKey operation
    uint64_t sequence           # of the entry that it became
    int64_t at
    int64_t value               # of a change: what the entry left

cdef packed struct DumpHeader:
    uint8_t magic[4]
    uint32_t version
    uint32_t account_size
    uint32_t card_size
    uint32_t record_size
    uint32_t shard
    uint64_t sequence
    int64_t last_at
    uint32_t account_count
    uint32_t names_size
    uint32_t card_count
    uint32_t record_count
    uint32_t operation_count


cdef class Limits:
    cdef readonly int64_t transactions_max
    cdef readonly int64_t quiet_max     # of one shard, as the two below
    cdef readonly int64_t money_max
    cdef readonly int64_t holds_max
    cdef readonly int64_t duplicate_window_ms
    cdef readonly int64_t hold_lifetime_ms
    cdef readonly int64_t transactions
    cdef readonly int64_t evicted_early


cdef class State:
    cdef readonly int shard
    cdef readonly Limits limits
    cdef readonly uint64_t sequence
    cdef readonly int64_t last_at
    cdef Account* accounts_table
    cdef readonly uint32_t account_count
    cdef uint32_t account_capacity
    cdef uint8_t* names
    cdef uint32_t names_size
    cdef uint32_t names_capacity
    cdef Card* cards_table
    cdef readonly uint32_t card_count
    cdef uint32_t card_capacity
    cdef Record* records
    cdef readonly uint32_t transaction_count
    cdef uint32_t record_capacity
    cdef uint32_t record_end            # records ever used; above is untouched
    cdef uint32_t free_record
    cdef uint32_t* account_slots
    cdef uint32_t account_slot_mask
    cdef uint32_t* card_slots
    cdef uint32_t card_slot_mask
    # Of each bucket: the index of its first record in 24 bits, and above it a mark for
    # every record in it.
    cdef uint32_t* buckets
    cdef uint32_t bucket_mask
    cdef uint32_t window_head[WINDOWS]
    cdef uint32_t window_tail[WINDOWS]
    cdef uint32_t window_count[WINDOWS]
    cdef readonly uint32_t hold_count
    cdef uint32_t hold_head
    cdef uint32_t hold_tail
    cdef dict operations                # by the hash of the key, oldest first

    cdef uint32_t find_account(self, const uint8_t* name, Py_ssize_t size) noexcept
    cdef uint32_t find_card(self, const uint8_t* pan_hash) noexcept
    cdef int64_t window_start(self, int64_t now) noexcept
    cdef uint32_t find_record(
        self, Trace* trace, uint64_t pan, const uint8_t* rrn, int64_t now,
        int* alike) noexcept
    cdef uint32_t find_original(
        self, Trace* trace, uint64_t pan, const uint8_t* rrn, int64_t now) noexcept
    cdef uint32_t find_sequence(
        self, Trace* trace, uint64_t pan, uint64_t sequence) noexcept
    cdef bint is_remembered(self, Trace* trace, uint64_t pan, int64_t now) noexcept
    cdef int reserve_account(self, uint32_t name_size) except -1
    cdef void add_account(self, Account* account, const uint8_t* name) noexcept
    cdef int reserve_card(self) except -1
    cdef void add_card(self, Card* card) noexcept
    cdef int reserve(self) except -1
    cdef uint32_t add_record(self, Record* record) except NONE
    cdef void open_hold(self, uint32_t index) noexcept
    cdef void close_hold(self, uint32_t index, uint8_t status) noexcept
    cdef int remember_operation(self, Attributed entry, int64_t value) except -1
    cdef void advance(self, uint64_t sequence, int64_t at) noexcept

    cdef str _account_name(self, uint32_t index)
    cdef object _account_view(self, uint32_t index)
    cdef int _grow_accounts(self, uint32_t capacity) except -1
    cdef int _grow_account_slots(self) except -1
    cdef void _slot_account(self, uint32_t index) noexcept
    cdef int _grow_cards(self, uint32_t capacity) except -1
    cdef int _grow_card_slots(self) except -1
    cdef void _slot_card(self, uint32_t index) noexcept
    cdef uint32_t _free_index(self) except NONE
    cdef int _grow_records(self, uint32_t capacity) except -1
    cdef uint32_t _first(self, uint64_t hashed) noexcept
    cdef void _link_bucket(self, uint32_t index) noexcept
    cdef void _unlink_bucket(self, Record* record, uint32_t index) noexcept
    cdef int _grow_buckets(self) except -1
    cdef void _append_window(self, uint32_t index) noexcept
    cdef void _forget_old(self, int64_t at, int window) noexcept
    cdef bint is_full(self) noexcept
    cdef bint takes_holds(self) noexcept
    cdef void _make_room(self, int window, int64_t count_max) noexcept
    cdef void _leave_window(self, int window) noexcept
    cdef void _forget(self, uint32_t index) noexcept


cdef uint64_t record_key(Trace* trace) noexcept
cdef uint64_t pan_prefix(const uint8_t* pan_hash) noexcept
cdef void* grown_table(void* table, size_t count, size_t item_size) except NULL
cdef uint32_t* empty_slots(uint32_t count) except NULL
