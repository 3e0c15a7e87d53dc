# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The state of one shard: accounts, cards, and what is remembered of transactions.

Rule 1: nothing outside `switch.ledger._apply` (and `switch.ledger._dump`, which loads
what apply once made) changes a state. Everything else only looks.

Rows live in plain arrays and are named by their index, which never changes; three
hash tables of indices find them by account name, by PAN hash, and by what a scheme
identifies a transaction with. A million accounts with a card each cost about
200 bytes apiece that way, and restoring them is copying memory.

A remembered transaction is on up to two lists. It is in a *window* until it is older
than the duplicate window; it is on the list of *holds* while its hold is open. It is
forgotten when it is on neither. There is a window for what moved money and one for the
rest. When all shards together remember as much as they may, a window that is over its
share forgets its oldest early, which is counted; one that is not keeps what it has. An
open hold is never forgotten: a shard over its share of them opens no more.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from switch.ledger._entry cimport OPERATION_HASH_SIZE, RRN_SIZE, message_type_number

from switch.ledger.views import AccountView, CardView, HoldView, OperationView

cdef enum:
    FORGOTTEN_AT_ONCE = 2       # by one that comes: what is over its share shrinks
    RECORDS_MAX = NONE - 1
    SCHEMES = 128
    # Operations with a key, in one duplicate window: more of them are refused.
    OPERATIONS_MAX = 4096


class StateError(ValueError):
    """An entry that does not fit, or a dump that this version cannot restore; says what
    was expected."""


cdef uint64_t pan_prefix(const uint8_t* pan_hash) noexcept:
    cdef uint64_t prefix
    memcpy(&prefix, pan_hash, 8)
    return prefix


cdef uint64_t record_key(Trace* trace) noexcept:
    # 8 types x 128 schemes x 10^10 (field 7) x 10^6 (field 11) fit in 64 bits
    cdef uint64_t kind = message_type_number(trace.mti) * SCHEMES + trace.scheme
    return (kind * 10000000000 + trace.transmitted) * 1000000 + trace.stan


cdef inline bint _counts(Record* record, int64_t oldest) noexcept:
    # a hold that stands is found, however old
    return record.at >= oldest or record.status == RECORD_HOLD_OPEN


cdef inline uint64_t _mixed(uint64_t value) noexcept:
    # finaliser of MurmurHash3; the PAN's hash in the mix is keyed, so that nobody
    # outside can choose colliding transactions
    value ^= value >> 33
    value *= <uint64_t> 0xFF51AFD7ED558CCD
    value ^= value >> 33
    value *= <uint64_t> 0xC4CEB9FE1A85EC53
    return value ^ (value >> 33)


cdef inline uint64_t _record_hash(
    uint64_t key, uint64_t pan, uint64_t acquirer
) noexcept:
    return _mixed(key ^ _mixed(pan ^ (acquirer * <uint64_t> 0x9E3779B97F4A7C15)))


cdef inline uint32_t _mark(uint64_t hashed) noexcept:
    # other bits of the hash than those that choose the bucket
    return <uint32_t> 1 << (24 + (hashed >> 61))


cdef inline void _push(
    uint32_t* buckets, uint32_t mask, uint32_t index, Record* record
) noexcept:
    cdef uint64_t hashed = _record_hash(record.key, record.pan, record.acquirer)
    cdef uint32_t* bucket = &buckets[<uint32_t> hashed & mask]
    record.next_in_bucket = bucket[0] & NONE
    bucket[0] = (bucket[0] ^ record.next_in_bucket) | _mark(hashed) | index


cdef inline uint64_t _name_hash(const uint8_t* name, Py_ssize_t size) noexcept:
    cdef uint64_t value = <uint64_t> 0xCBF29CE484222325
    cdef Py_ssize_t i
    for i in range(size):
        value = (value ^ name[i]) * <uint64_t> 0x100000001B3
    return _mixed(value)


cdef void* grown_table(void* table, size_t count, size_t item_size) except NULL:
    cdef void* grown = realloc(table, count * item_size)
    if grown == NULL:
        raise MemoryError(f"ledger state: no memory for {count} rows of {item_size}")
    return grown


cdef uint32_t _capacity_after(uint32_t capacity) noexcept:
    # by a quarter: doubling would leave up to half of a large table unused
    return capacity + (capacity >> 2) + 64


cdef uint32_t* empty_slots(uint32_t count) except NULL:
    cdef uint32_t* slots = <uint32_t*> grown_table(NULL, count, sizeof(uint32_t))
    cdef uint32_t i
    for i in range(count):
        slots[i] = NONE
    return slots


cdef class Limits:
    """Bounds of what is remembered; times in milliseconds.

    `transactions_max` is for all shards together. When it is reached, each has its
    equal part of it, and of that a quarter for what moved no money, a quarter for what
    did, half for open holds; until then any of them may have more.
    """

    def __init__(
        self, *, int64_t transactions_max=8_000_000,
        int64_t duplicate_window_ms=24 * 3600 * 1000,
        int64_t hold_lifetime_ms=7 * 24 * 3600 * 1000, int64_t shard_count=1,
    ):
        cdef int64_t share
        for name, value in (
            ("transactions_max", transactions_max),
            ("duplicate_window_ms", duplicate_window_ms),
            ("hold_lifetime_ms", hold_lifetime_ms),
            ("shard_count", shard_count),
        ):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self.transactions_max = transactions_max
        self.duplicate_window_ms = duplicate_window_ms
        self.hold_lifetime_ms = hold_lifetime_ms
        # Two more may come with one entry: the record, and the mark of a reversal.
        share = min(transactions_max // shard_count, RECORDS_MAX - 2)
        self.quiet_max = max(share // 4, 1)
        self.money_max = max(share // 4, 1)
        self.holds_max = max(share - self.quiet_max - self.money_max, 1)
        self.transactions = 0
        self.evicted_early = 0


cdef class State:
    """One shard. See the module for what it holds; `_apply` for how it changes."""

    def __cinit__(self, int shard, Limits limits not None):
        cdef int window
        self.shard = shard
        self.limits = limits
        self.free_record = NONE
        for window in range(WINDOWS):
            self.window_head[window] = self.window_tail[window] = NONE
        self.hold_head = self.hold_tail = NONE
        self.operations = {}
        self.account_slots = empty_slots(64)
        self.account_slot_mask = 63
        self.card_slots = empty_slots(64)
        self.card_slot_mask = 63
        self.buckets = empty_slots(64)
        self.bucket_mask = 63

    def __dealloc__(self):
        if self.limits is not None:
            self.limits.transactions -= self.transaction_count
        free(self.accounts_table)
        free(self.names)
        free(self.cards_table)
        free(self.records)
        free(self.account_slots)
        free(self.card_slots)
        free(self.buckets)

    # --- looking ------------------------------------------------------------------

    cdef uint32_t find_account(self, const uint8_t* name, Py_ssize_t size) noexcept:
        cdef uint32_t slot = <uint32_t> _name_hash(name, size) & self.account_slot_mask
        cdef uint32_t index = self.account_slots[slot]
        cdef Account* account
        while index != NONE:
            account = &self.accounts_table[index]
            if account.name_size == size and memcmp(
                self.names + account.name_offset, name, size
            ) == 0:
                return index
            slot = (slot + 1) & self.account_slot_mask
            index = self.account_slots[slot]
        return NONE

    cdef uint32_t find_card(self, const uint8_t* pan_hash) noexcept:
        cdef uint32_t slot = <uint32_t> pan_prefix(pan_hash) & self.card_slot_mask
        cdef uint32_t index = self.card_slots[slot]
        while index != NONE:
            if memcmp(self.cards_table[index].pan_hash, pan_hash, 16) == 0:
                return index
            slot = (slot + 1) & self.card_slot_mask
            index = self.card_slots[slot]
        return NONE

    cdef int64_t window_start(self, int64_t now) noexcept:
        """What is older counts as forgotten, whether it is yet or not."""
        return now - self.limits.duplicate_window_ms

    cdef uint32_t find_record(
        self, Trace* trace, uint64_t pan, const uint8_t* rrn, int64_t now, int* alike
    ) noexcept:
        """The transaction that this one would repeat, or its early reversal.

        `alike` counts those on the way that differ in field 37 alone.
        """
        cdef int64_t oldest = self.window_start(now)
        cdef uint64_t key = record_key(trace)
        cdef uint32_t index = self._first(_record_hash(key, pan, trace.acquirer))
        cdef uint32_t unseen = NONE
        cdef uint32_t found = NONE
        cdef Record* record
        while index != NONE:
            record = &self.records[index]
            if (
                record.key == key and record.pan == pan
                and record.acquirer == trace.acquirer and _counts(record, oldest)
            ):
                if record.status == RECORD_REVERSED_UNSEEN:
                    unseen = index
                elif memcmp(record.rrn, rrn, RRN_SIZE) != 0:
                    alike[0] += 1
                elif (
                    found == NONE or record.sequence > self.records[found].sequence
                ):
                    # the newest: the window may have been a shorter one then
                    found = index
            index = record.next_in_bucket
        return found if found != NONE else unseen

    cdef bint is_remembered(self, Trace* trace, uint64_t pan, int64_t now) noexcept:
        """Whether there is such a transaction, with whatever field 37."""
        cdef int64_t oldest = self.window_start(now)
        cdef uint64_t key = record_key(trace)
        cdef uint32_t index = self._first(_record_hash(key, pan, trace.acquirer))
        cdef Record* record
        while index != NONE:
            record = &self.records[index]
            if (
                record.key == key and record.pan == pan
                and record.acquirer == trace.acquirer and _counts(record, oldest)
                and record.status != RECORD_REVERSED_UNSEEN
            ):
                return True
            index = record.next_in_bucket
        return False

    cdef uint32_t find_original(
        self, Trace* trace, uint64_t pan, const uint8_t* rrn, int64_t now
    ) noexcept:
        """What field 90 names. Field 37 is not in it: it decides between several."""
        cdef int64_t oldest = self.window_start(now)
        cdef uint64_t key = record_key(trace)
        cdef uint32_t index = self._first(_record_hash(key, pan, trace.acquirer))
        cdef uint32_t found = NONE
        cdef uint32_t exact = NONE
        cdef bint several = False
        cdef Record* record
        while index != NONE:
            record = &self.records[index]
            if (
                record.key == key and record.pan == pan
                and record.acquirer == trace.acquirer and _counts(record, oldest)
            ):
                if memcmp(record.rrn, rrn, RRN_SIZE) != 0:
                    several = found != NONE
                    found = index
                elif (
                    exact == NONE or record.sequence > self.records[exact].sequence
                ):
                    exact = index
            index = record.next_in_bucket
        if exact != NONE:
            return exact
        return NONE if several else found

    cdef uint32_t find_sequence(
        self, Trace* trace, uint64_t pan, uint64_t sequence
    ) noexcept:
        cdef uint32_t index = self._first(
            _record_hash(record_key(trace), pan, trace.acquirer)
        )
        while index != NONE:
            if self.records[index].sequence == sequence:
                return index
            index = self.records[index].next_in_bucket
        return NONE

    def account(self, str name not None):
        cdef bytes encoded = name.encode("utf-8")
        cdef uint32_t index = self.find_account(
            <const uint8_t*> PyBytes_AS_STRING(encoded), len(encoded)
        )
        return None if index == NONE else self._account_view(index)

    def account_index(self, bytes name not None):
        cdef uint32_t index = self.find_account(
            <const uint8_t*> PyBytes_AS_STRING(name), len(name)
        )
        return -1 if index == NONE else index

    def has_card(self, bytes pan_hash not None):
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        return self.find_card(<const uint8_t*> PyBytes_AS_STRING(pan_hash)) != NONE

    def card(self, bytes pan_hash not None):
        cdef uint32_t index
        cdef Card* card
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        index = self.find_card(<const uint8_t*> PyBytes_AS_STRING(pan_hash))
        if index == NONE:
            return None
        card = &self.cards_table[index]
        return CardView(
            self._account_name(card.account), card.expiry, card.status,
            PyBytes_FromStringAndSize(<char*> card.last_four, 4).decode("latin-1"),
            PyBytes_FromStringAndSize(<char*> card.sealed_pan, card.sealed_pan_size),
        )

    def card_hashes(self):
        """The PAN hashes of all cards, in the order in which they were issued."""
        cdef uint32_t index
        for index in range(self.card_count):
            yield PyBytes_FromStringAndSize(
                <char*> self.cards_table[index].pan_hash, 16
            )

    def accounts(self):
        cdef uint32_t index
        for index in range(self.account_count):
            yield self._account_view(index)

    def holds(self):
        cdef uint32_t index = self.hold_head
        cdef list views = []
        cdef Record* record
        while index != NONE:
            record = &self.records[index]
            views.append(HoldView(record.sequence, record.account, record.remaining))
            index = record.next_hold
        return iter(views)

    def operation(self, bytes key not None, int64_t now):
        """What became of the operation with this key (its hash), None: there was none
        within the duplicate window."""
        found = self.operations.get(key)
        if found is None or self._is_old(found, now):
            return None
        return found

    def takes_operations(self, int64_t now):
        """Whether one more with a key can be remembered."""
        if len(self.operations) < OPERATIONS_MAX:
            return True
        return self._is_old(next(iter(self.operations.values())), now)

    def _is_old(self, operation, int64_t now):
        return operation.at < self.window_start(now)

    cdef str _account_name(self, uint32_t index):
        cdef Account* account = &self.accounts_table[index]
        return PyBytes_FromStringAndSize(
            <char*> self.names + account.name_offset, account.name_size
        ).decode("latin-1")

    cdef object _account_view(self, uint32_t index):
        cdef Account* account = &self.accounts_table[index]
        return AccountView(
            self._account_name(index), account.currency, account.balance,
            account.held, account.credit_limit, account.status,
        )

    # --- changing: for _apply and _dump only ----------------------------------------

    cdef int remember_operation(self, Attributed entry, int64_t value) except -1:
        """Forgets those that are too old; no other one is ever forgotten."""
        cdef uint8_t* operation = <uint8_t*> &entry.operation
        cdef bytes key = PyBytes_FromStringAndSize(
            <char*> operation, OPERATION_HASH_SIZE
        )
        cdef object remembered = OperationView(
            PyBytes_FromStringAndSize(
                <char*> operation + OPERATION_HASH_SIZE, OPERATION_HASH_SIZE
            ),
            entry.sequence, entry.at, value,
        )
        cdef list old = []
        for known, found in self.operations.items():
            if not self._is_old(found, entry.at):
                break
            old.append(known)
        for known in old:
            del self.operations[known]
        # As the newest, whatever was there: they are in order.
        self.operations.pop(key, None)
        self.operations[key] = remembered
        return 0

    cdef void advance(self, uint64_t sequence, int64_t at) noexcept:
        self.sequence = sequence
        if at > self.last_at:
            self.last_at = at

    cdef int reserve_account(self, uint32_t name_size) except -1:
        """Memory for one more, so that adding it cannot fail."""
        cdef uint32_t capacity
        if self.account_count == self.account_capacity:
            self._grow_accounts(_capacity_after(self.account_capacity))
        if self.names_size + name_size > self.names_capacity:
            capacity = _capacity_after(self.names_size + name_size)
            self.names = <uint8_t*> grown_table(self.names, capacity, 1)
            self.names_capacity = capacity
        if (self.account_count + 1) * 4 > (self.account_slot_mask + 1) * 3:
            self._grow_account_slots()
        return 0

    cdef void add_account(self, Account* account, const uint8_t* name) noexcept:
        cdef uint32_t index = self.account_count
        memcpy(self.names + self.names_size, name, account.name_size)
        self.accounts_table[index] = account[0]
        self.accounts_table[index].name_offset = self.names_size
        self.names_size += account.name_size
        self.account_count += 1
        self._slot_account(index)

    cdef int _grow_accounts(self, uint32_t capacity) except -1:
        self.accounts_table = <Account*> grown_table(
            self.accounts_table, capacity, sizeof(Account)
        )
        self.account_capacity = capacity
        return 0

    cdef int _grow_account_slots(self) except -1:
        cdef uint32_t count = (self.account_slot_mask + 1) * 2
        cdef uint32_t* slots = empty_slots(count)
        cdef uint32_t index
        free(self.account_slots)
        self.account_slots = slots
        self.account_slot_mask = count - 1
        for index in range(self.account_count):
            self._slot_account(index)
        return 0

    cdef void _slot_account(self, uint32_t index) noexcept:
        cdef Account* account = &self.accounts_table[index]
        cdef uint32_t slot = <uint32_t> _name_hash(
            self.names + account.name_offset, account.name_size
        ) & self.account_slot_mask
        while self.account_slots[slot] != NONE:
            slot = (slot + 1) & self.account_slot_mask
        self.account_slots[slot] = index

    cdef int reserve_card(self) except -1:
        """Memory for one more, so that adding it cannot fail."""
        if self.card_count == self.card_capacity:
            self._grow_cards(_capacity_after(self.card_capacity))
        if (self.card_count + 1) * 4 > (self.card_slot_mask + 1) * 3:
            self._grow_card_slots()
        return 0

    cdef void add_card(self, Card* card) noexcept:
        cdef uint32_t index = self.card_count
        self.cards_table[index] = card[0]
        self.card_count += 1
        self._slot_card(index)

    cdef int _grow_cards(self, uint32_t capacity) except -1:
        self.cards_table = <Card*> grown_table(self.cards_table, capacity, sizeof(Card))
        self.card_capacity = capacity
        return 0

    cdef int _grow_card_slots(self) except -1:
        cdef uint32_t count = (self.card_slot_mask + 1) * 2
        cdef uint32_t* slots = empty_slots(count)
        cdef uint32_t index
        free(self.card_slots)
        self.card_slots = slots
        self.card_slot_mask = count - 1
        for index in range(self.card_count):
            self._slot_card(index)
        return 0

    cdef void _slot_card(self, uint32_t index) noexcept:
        cdef uint32_t slot = (
            <uint32_t> pan_prefix(self.cards_table[index].pan_hash)
            & self.card_slot_mask
        )
        while self.card_slots[slot] != NONE:
            slot = (slot + 1) & self.card_slot_mask
        self.card_slots[slot] = index

    cdef uint32_t add_record(self, Record* record) except NONE:
        """Remembers a transaction; forgets what has grown too old."""
        cdef uint32_t index
        self._forget_old(record.at, WINDOW_QUIET)
        self._forget_old(record.at, WINDOW_MONEY)
        if self.is_full():
            self._make_room(
                WINDOW_QUIET, self.limits.quiet_max + (record.window != WINDOW_QUIET)
            )
            self._make_room(
                WINDOW_MONEY, self.limits.money_max + (record.window != WINDOW_MONEY)
            )
        index = self._free_index()
        self.records[index] = record[0]
        self.transaction_count += 1
        self.limits.transactions += 1
        self._link_bucket(index)
        self._append_window(index)
        if record.status == RECORD_HOLD_OPEN:
            self.open_hold(index)
        return index

    cdef int reserve(self) except -1:
        """Memory for what one entry can add, so that applying it cannot fail midway."""
        if self.record_end + 2 > self.record_capacity:
            self._grow_records(
                min(_capacity_after(self.record_capacity), <uint32_t> RECORDS_MAX)
            )
        while self.transaction_count + 2 > self.bucket_mask:
            self._grow_buckets()
        return 0

    cdef uint32_t _free_index(self) except NONE:
        cdef uint32_t index = self.free_record
        if index != NONE:
            self.free_record = self.records[index].next_in_bucket
            return index
        assert self.record_end < self.record_capacity
        index = self.record_end
        self.record_end += 1
        return index

    cdef int _grow_records(self, uint32_t capacity) except -1:
        if capacity <= self.record_capacity:
            raise MemoryError(f"shard {self.shard}: more than {capacity} transactions")
        self.records = <Record*> grown_table(self.records, capacity, sizeof(Record))
        self.record_capacity = capacity
        return 0

    cdef uint32_t _first(self, uint64_t hashed) noexcept:
        """The first record of the bucket, if this may be among them: most that is
        looked for is new, and no record is touched for it."""
        cdef uint32_t bucket = self.buckets[<uint32_t> hashed & self.bucket_mask]
        return bucket & NONE if bucket & _mark(hashed) else <uint32_t> NONE

    cdef void _link_bucket(self, uint32_t index) noexcept:
        _push(self.buckets, self.bucket_mask, index, &self.records[index])

    cdef int _grow_buckets(self) except -1:
        cdef uint32_t count = (self.bucket_mask + 1) * 2
        cdef uint32_t* buckets = empty_slots(count)
        cdef uint32_t i, index, following
        for i in range(self.bucket_mask + 1):
            index = self.buckets[i] & NONE
            while index != NONE:
                following = self.records[index].next_in_bucket
                _push(buckets, count - 1, index, &self.records[index])
                index = following
        free(self.buckets)
        self.buckets = buckets
        self.bucket_mask = count - 1
        return 0

    cdef void _append_window(self, uint32_t index) noexcept:
        cdef Record* record = &self.records[index]
        cdef int window = record.window
        record.next_in_window = NONE
        if self.window_tail[window] == NONE:
            self.window_head[window] = index
        else:
            self.records[self.window_tail[window]].next_in_window = index
        self.window_tail[window] = index
        self.window_count[window] += 1

    cdef void _forget_old(self, int64_t at, int window) noexcept:
        # two for every one that comes: memory shrinks again after a peak
        cdef int64_t oldest = self.window_start(at)
        cdef int left = 2
        while left and self.window_head[window] != NONE and (
            self.records[self.window_head[window]].at < oldest
        ):
            self._leave_window(window)
            left -= 1

    cdef bint is_full(self) noexcept:
        return (
            self.limits.transactions >= self.limits.transactions_max
            or self.transaction_count >= RECORDS_MAX - 2
        )

    cdef bint takes_holds(self) noexcept:
        return not self.is_full() or self.hold_count < self.limits.holds_max

    cdef void _make_room(self, int window, int64_t count_max) noexcept:
        cdef int left = FORGOTTEN_AT_ONCE
        while left and self.window_count[window] >= count_max:
            if self.records[self.window_head[window]].status != RECORD_HOLD_OPEN:
                self.limits.evicted_early += 1
            self._leave_window(window)
            left -= 1

    cdef void _leave_window(self, int window) noexcept:
        cdef uint32_t index = self.window_head[window]
        cdef Record* record = &self.records[index]
        self.window_head[window] = record.next_in_window
        if self.window_head[window] == NONE:
            self.window_tail[window] = NONE
        self.window_count[window] -= 1
        record.window = WINDOW_NONE
        if record.status != RECORD_HOLD_OPEN:
            self._forget(index)

    cdef void _forget(self, uint32_t index) noexcept:
        cdef Record* record = &self.records[index]
        self._unlink_bucket(record, index)
        record.status = RECORD_FREE
        record.sequence = 0
        record.next_in_bucket = self.free_record
        self.free_record = index
        self.transaction_count -= 1
        self.limits.transactions -= 1

    cdef void _unlink_bucket(self, Record* record, uint32_t index) noexcept:
        cdef uint32_t* bucket = &self.buckets[
            <uint32_t> _record_hash(record.key, record.pan, record.acquirer)
            & self.bucket_mask
        ]
        cdef uint32_t first = bucket[0] & NONE
        cdef uint32_t* link = &first
        cdef uint32_t marks = 0
        cdef uint32_t other
        while link[0] != index:
            link = &self.records[link[0]].next_in_bucket
        link[0] = record.next_in_bucket
        other = first
        while other != NONE:
            record = &self.records[other]
            marks |= _mark(_record_hash(record.key, record.pan, record.acquirer))
            other = record.next_in_bucket
        bucket[0] = marks | first

    cdef void open_hold(self, uint32_t index) noexcept:
        """Puts a record at the end of the holds; all live equally long, so in order."""
        cdef Record* record = &self.records[index]
        record.status = RECORD_HOLD_OPEN
        self.hold_count += 1
        record.next_hold = NONE
        record.previous_hold = self.hold_tail
        if self.hold_tail == NONE:
            self.hold_head = index
        else:
            self.records[self.hold_tail].next_hold = index
        self.hold_tail = index

    cdef void close_hold(self, uint32_t index, uint8_t status) noexcept:
        cdef Record* record = &self.records[index]
        if record.previous_hold == NONE:
            self.hold_head = record.next_hold
        else:
            self.records[record.previous_hold].next_hold = record.next_hold
        if record.next_hold == NONE:
            self.hold_tail = record.previous_hold
        else:
            self.records[record.next_hold].previous_hold = record.previous_hold
        record.status = status
        record.remaining = 0
        self.hold_count -= 1
        if record.window == WINDOW_NONE:
            self._forget(index)
