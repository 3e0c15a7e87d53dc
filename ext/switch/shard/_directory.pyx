# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which shard a PAN belongs to.

A card lives in the shard of its account, which its PAN does not tell. Here it costs
eight bytes: 48 bits of the PAN's keyed hash and the shard's number. What the 48 bits
find is compared in full with the shard's own card. There are many tables, so that a
growing one moves few cards at once: messages wait for it.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport calloc, free

from switch.ledger._state cimport NONE, State, pan_prefix

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
    """The cards of all shards of this process. `states[n]` is shard n."""

    def __init__(self, states):
        cdef State state
        cdef uint32_t index
        cdef uint64_t cards = 0
        self.states = list(states)
        if not 1 <= len(self.states) <= SHARD_MASK:
            raise ValueError(f"expected 1 to 65535 shards, got {len(self.states)}")
        for number, state in enumerate(self.states):
            if state.shard != number:
                raise ValueError(f"expected shard {number}, got shard {state.shard}")
            cards += state.card_count
        for number in range(TABLES):
            _allocate(&self.tables[number], cards // TABLES)
        for state in self.states:
            for index in range(state.card_count):
                self.add(state.cards_table[index].pan_hash, state.shard)

    def __dealloc__(self):
        cdef Table* table
        for table in self.tables[:TABLES]:
            free(table.slots)

    cdef int shard_of(self, const uint8_t* pan_hash) noexcept:
        """The card's shard; for an unknown card, the one that remembers its PAN."""
        cdef uint64_t tag = _tag(pan_hash)
        cdef Table* table = &self.tables[tag & TABLE_MASK]
        cdef uint64_t at = (tag >> TABLE_BITS) & table.mask
        cdef int shard
        while table.slots[at]:
            if table.slots[at] >> SHARD_BITS == tag:
                shard = <int> (table.slots[at] & SHARD_MASK)
                if (<State> self.states[shard]).find_card(pan_hash) != NONE:
                    return shard
            at = (at + 1) & table.mask
        return <int> (pan_prefix(pan_hash) % <uint64_t> len(self.states))

    def shard(self, bytes pan_hash not None):
        """`shard_of`, for callers in Python."""
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        return self.shard_of(<const uint8_t*> PyBytes_AS_STRING(pan_hash))

    def learn(self, bytes pan_hash not None, int shard):
        """A card that was issued since, and is in that shard's state."""
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        self.add(<const uint8_t*> PyBytes_AS_STRING(pan_hash), shard)

    cdef int add(self, const uint8_t* pan_hash, int shard) except -1:
        cdef uint64_t tag = _tag(pan_hash)
        cdef Table* table = &self.tables[tag & TABLE_MASK]
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
