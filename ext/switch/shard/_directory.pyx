# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which shard a PAN belongs to.

A card lives in the shard of its account, which its PAN does not tell. Here it costs
eight bytes: 48 bits of the PAN's keyed hash and the shard's number. What the 48 bits
find is compared in full with the shard's own card. There are many tables, so that a
growing one moves few cards at once: messages wait for it.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport PyObject
from libc.stdlib cimport calloc, free

from switch.ledger._state cimport NONE, State, pan_prefix

from switch.shard.errors import Elsewhere

cdef enum:
    SHARD_BITS = 16
    SHARD_MASK = 0xFFFF
    TABLE_BITS = 6
    TABLE_MASK = TABLES - 1     # TABLES is 1 << TABLE_BITS
    SLOTS_MIN = 16


cdef inline uint64_t _tag(const uint8_t* pan_hash) noexcept:
    cdef uint64_t tag = pan_prefix(pan_hash) >> SHARD_BITS
    return tag if tag else 1


cdef class CardDirectory:
    """The cards of the shards that are here. `states[n]` is shard n, None if it is
    elsewhere: `shard_count` says how many there are when `states` are not all of them.

    What is known of a shard stays when the shard goes: cards do not move between
    shards, so that it is right again when the shard comes back.
    """

    def __init__(self, states, *, shard_count=None):
        cdef State state
        cdef uint64_t cards = 0
        states = list(states)
        self.shard_count = len(states) if shard_count is None else shard_count
        if not 1 <= self.shard_count <= SHARD_MASK:
            raise ValueError(f"expected 1 to 65535 shards, got {self.shard_count}")
        self.states = [None] * self.shard_count
        for number, state in enumerate(states):
            if shard_count is None and state.shard != number:
                raise ValueError(f"expected shard {number}, got shard {state.shard}")
            cards += state.card_count
        for number in range(TABLES):
            _allocate(&self.tables[number], cards // TABLES)
        for state in states:
            self.open_shard(state)

    def __dealloc__(self):
        cdef Table* table
        for table in self.tables[:TABLES]:
            free(table.slots)

    def open_shard(self, State state not None):
        """Its cards are found from now on."""
        cdef uint32_t index
        if not 0 <= state.shard < self.shard_count:
            raise ValueError(
                f"expected a shard below {self.shard_count}, got shard {state.shard}"
            )
        if self.states[state.shard] is not None:
            raise ValueError(f"shard {state.shard} is here already")
        for index in range(state.card_count):
            self.add(state.cards_table[index].pan_hash, state.shard)
        self.states[state.shard] = state
        self.open_count += 1

    def close_shard(self, int number):
        """Its cards are not found any more. Raises Elsewhere."""
        if not 0 <= number < self.shard_count or self.states[number] is None:
            raise Elsewhere(f"expected a shard that is here, got shard {number}")
        self.states[number] = None
        self.open_count -= 1

    cdef int shard_of(self, const uint8_t* pan_hash) noexcept:
        """The card's shard; for an unknown card, the one that remembers its PAN. While
        some are elsewhere, an unknown card may be theirs: `shard_count` then."""
        cdef uint64_t tag = _tag(pan_hash)
        cdef Table* table = &self.tables[tag & TABLE_MASK]
        cdef uint64_t at = (tag >> TABLE_BITS) & table.mask
        cdef int shard
        cdef PyObject* state        # borrowed: nothing happens meanwhile
        while table.slots[at]:
            if table.slots[at] >> SHARD_BITS == tag:
                shard = <int> (table.slots[at] & SHARD_MASK)
                state = PyList_GET_ITEM(self.states, shard)
                if state != <PyObject*> None and (
                    (<State> state).find_card(pan_hash) != NONE
                ):
                    return shard
            at = (at + 1) & table.mask
        if self.open_count < self.shard_count:
            return self.shard_count
        return <int> (pan_prefix(pan_hash) % <uint64_t> self.shard_count)

    def shard(self, bytes pan_hash not None):
        """`shard_of`, for callers in Python. Raises Elsewhere."""
        cdef int number
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        number = self.shard_of(<const uint8_t*> PyBytes_AS_STRING(pan_hash))
        if number == self.shard_count:
            raise Elsewhere("expected a card of a shard that is here, got another")
        return number

    def learn(self, bytes pan_hash not None, int shard):
        """A card that was issued since, and is in that shard's state."""
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        self.add(<const uint8_t*> PyBytes_AS_STRING(pan_hash), shard)

    cdef int add(self, const uint8_t* pan_hash, int shard) except -1:
        cdef uint64_t tag = _tag(pan_hash)
        cdef Table* table = &self.tables[tag & TABLE_MASK]
        if _has(table, (tag << SHARD_BITS) | <uint64_t> shard):
            return 0
        if (table.count + 1) * 4 > (table.mask + 1) * 3:
            _grow(table)
        _put(table, (tag << SHARD_BITS) | <uint64_t> shard)
        table.count += 1
        self.count += 1
        return 0


cdef int _allocate(Table* table, uint64_t count) except -1:
    cdef uint64_t size = SLOTS_MIN
    while size * 3 < count * 4 + 4:
        size *= 2
    table.slots = <uint64_t*> calloc(size, sizeof(uint64_t))
    if table.slots == NULL:
        raise MemoryError(f"card directory: no memory for {size} slots")
    table.mask = size - 1
    return 0


cdef bint _has(Table* table, uint64_t slot) noexcept:
    cdef uint64_t at = (slot >> (SHARD_BITS + TABLE_BITS)) & table.mask
    while table.slots[at]:
        if table.slots[at] == slot:
            return True
        at = (at + 1) & table.mask
    return False


cdef void _put(Table* table, uint64_t slot) noexcept:
    cdef uint64_t at = (slot >> (SHARD_BITS + TABLE_BITS)) & table.mask
    while table.slots[at]:
        at = (at + 1) & table.mask
    table.slots[at] = slot


cdef int _grow(Table* table) except -1:
    cdef Table grown
    cdef uint64_t at
    _allocate(&grown, table.count * 2)
    for at in range(table.mask + 1):
        if table.slots[at]:
            _put(&grown, table.slots[at])
    free(table.slots)
    table.slots = grown.slots
    table.mask = grown.mask
    return 0
