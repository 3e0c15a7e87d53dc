# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A whole shard as bytes, and back: what a snapshot holds.

Copies memory, so that a million accounts are there again in a moment; a dump is good
for the program that has the same rows, and its header says which those are.

    DumpHeader (see _state.pxd) | accounts | names | cards | records | operations
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from switch.ledger._state cimport (
    NONE, RECORD_HOLD_OPEN, WINDOW_MONEY, WINDOW_NONE, WINDOW_QUIET, Account, Card,
    DumpHeader, Limits, OperationRow, Record, State, empty_slots, grown_table,
)

from switch.ledger._state import StateError
from switch.ledger.views import OperationView

cdef enum:
    STATE_VERSION = 2


# A table that has no rows yet has no memory either, and C allows no copy of that.
cdef inline void copy_table(
    void* out, const void* data, Py_ssize_t size
) noexcept:
    if size:
        memcpy(out, data, size)


def dump(State state not None):
    """The whole shard as bytes, for `restore`. No I/O."""
    cdef DumpHeader header
    cdef bytes out
    cdef uint8_t* at
    memcpy(header.magic, b"SWST", 4)
    header.version = STATE_VERSION
    header.account_size = sizeof(Account)
    header.card_size = sizeof(Card)
    header.record_size = sizeof(Record)
    header.shard = state.shard
    header.sequence = state.sequence
    header.last_at = state.last_at
    header.account_count = state.account_count
    header.names_size = state.names_size
    header.card_count = state.card_count
    header.record_count = state.transaction_count
    header.operation_count = <uint32_t> len(state.operations)
    out = PyBytes_FromStringAndSize(NULL, _dump_size(&header))
    at = <uint8_t*> PyBytes_AS_STRING(out)
    memcpy(at, &header, sizeof(DumpHeader))
    at += sizeof(DumpHeader)
    copy_table(at, state.accounts_table, state.account_count * sizeof(Account))
    at += state.account_count * sizeof(Account)
    copy_table(at, state.names, state.names_size)
    at += state.names_size
    copy_table(at, state.cards_table, state.card_count * sizeof(Card))
    at += state.card_count * sizeof(Card)
    at = _dump_records(state, at)
    _dump_operations(state, at)
    return out


cdef uint8_t* _dump_records(State state, uint8_t* at) noexcept:
    """Oldest first: holds that have left the window, then the windows."""
    cdef uint32_t index = state.hold_head
    cdef int window
    while index != NONE:
        if state.records[index].window == WINDOW_NONE:
            memcpy(at, &state.records[index], sizeof(Record))
            at += sizeof(Record)
        index = state.records[index].next_hold
    for window in (WINDOW_QUIET, WINDOW_MONEY):
        index = state.window_head[window]
        while index != NONE:
            memcpy(at, &state.records[index], sizeof(Record))
            at += sizeof(Record)
            index = state.records[index].next_in_window
    return at


cdef int _dump_operations(State state, uint8_t* at) except -1:
    cdef OperationRow row
    cdef bytes key, asked
    for key, found in state.operations.items():
        asked = found.asked
        memcpy(row.operation.key, PyBytes_AS_STRING(key), 16)
        memcpy(row.operation.asked, PyBytes_AS_STRING(asked), 16)
        row.sequence = found.sequence
        row.at = found.at
        row.value = found.value
        memcpy(at, &row, sizeof(OperationRow))
        at += sizeof(OperationRow)
    return 0


def restore(const uint8_t[::1] data not None, Limits limits not None):
    """The shard that was dumped. Raises StateError."""
    cdef DumpHeader header
    cdef State state
    cdef const uint8_t* at
    if data.shape[0] < <Py_ssize_t> sizeof(DumpHeader):
        raise StateError(
            f"state dump: expected a header, got {data.shape[0]} bytes"
        )
    memcpy(&header, &data[0], sizeof(DumpHeader))
    _check_dump(&header, data.shape[0])
    state = State(<int> header.shard, limits)
    state.sequence = header.sequence
    state.last_at = header.last_at
    at = &data[0] + sizeof(DumpHeader)
    at = _restore_accounts(state, &header, at)
    at = _restore_cards(state, &header, at)
    at = _restore_records(state, &header, at)
    _restore_operations(state, &header, at)
    return state


cdef const uint8_t* _restore_accounts(
    State state, DumpHeader* header, const uint8_t* at
) except NULL:
    cdef uint32_t count = header.account_count
    cdef uint32_t index
    state._grow_accounts(count + 1)
    copy_table(state.accounts_table, at, count * sizeof(Account))
    at += count * sizeof(Account)
    state.names_capacity = header.names_size + 1
    state.names = <uint8_t*> grown_table(state.names, state.names_capacity, 1)
    state.names_size = header.names_size
    copy_table(state.names, at, header.names_size)
    free(state.account_slots)
    state.account_slots = NULL
    state.account_slots = empty_slots(_power_of_two(count + count // 3 + 1))
    state.account_slot_mask = _power_of_two(count + count // 3 + 1) - 1
    for index in range(count):
        state.account_count = index + 1
        state._slot_account(index)
    return at + header.names_size


cdef const uint8_t* _restore_cards(
    State state, DumpHeader* header, const uint8_t* at
) except NULL:
    cdef uint32_t count = header.card_count
    cdef uint32_t index
    state._grow_cards(count + 1)
    copy_table(state.cards_table, at, count * sizeof(Card))
    free(state.card_slots)
    state.card_slots = NULL
    state.card_slots = empty_slots(_power_of_two(count + count // 3 + 1))
    state.card_slot_mask = _power_of_two(count + count // 3 + 1) - 1
    for index in range(count):
        state.card_count = index + 1
        state._slot_card(index)
    return at + count * sizeof(Card)


cdef const uint8_t* _restore_records(
    State state, DumpHeader* header, const uint8_t* at
) except NULL:
    cdef uint32_t index
    state._grow_records(header.record_count + 1)
    while state.bucket_mask < header.record_count:
        state._grow_buckets()
    for index in range(header.record_count):
        memcpy(&state.records[index], at, sizeof(Record))
        at += sizeof(Record)
        state.record_end = index + 1
        state.transaction_count += 1
        state.limits.transactions += 1
        state._link_bucket(index)
        if state.records[index].window != WINDOW_NONE:
            state._append_window(index)
        if state.records[index].status == RECORD_HOLD_OPEN:
            state.open_hold(index)
    return at


cdef int _restore_operations(
    State state, DumpHeader* header, const uint8_t* at
) except -1:
    cdef OperationRow row
    for _ in range(header.operation_count):
        memcpy(&row, at, sizeof(OperationRow))
        at += sizeof(OperationRow)
        state.operations[PyBytes_FromStringAndSize(<char*> row.operation.key, 16)] = (
            OperationView(
                PyBytes_FromStringAndSize(<char*> row.operation.asked, 16),
                row.sequence, row.at, row.value,
            )
        )
    return 0


cdef uint32_t _power_of_two(uint32_t count) noexcept:
    cdef uint32_t size = 64
    while size < count:
        size <<= 1
    return size


cdef Py_ssize_t _dump_size(DumpHeader* header) noexcept:
    return (
        <Py_ssize_t> sizeof(DumpHeader) + header.names_size
        + <Py_ssize_t> header.account_count * sizeof(Account)
        + <Py_ssize_t> header.card_count * sizeof(Card)
        + <Py_ssize_t> header.record_count * sizeof(Record)
        + <Py_ssize_t> header.operation_count * sizeof(OperationRow)
    )


cdef int _check_dump(DumpHeader* header, Py_ssize_t size) except -1:
    cdef tuple got = (
        header.version, header.account_size, header.card_size, header.record_size
    )
    cdef tuple expected = (
        STATE_VERSION, sizeof(Account), sizeof(Card), sizeof(Record)
    )
    if memcmp(header.magic, b"SWST", 4) != 0:
        raise StateError("state dump: expected the mark SWST at its start")
    if got != expected:
        raise StateError(
            f"state dump: expected version and row sizes {expected}, got {got}"
        )
    if _dump_size(header) != size:
        raise StateError(
            f"state dump: expected {_dump_size(header)} bytes, got {size}"
        )
    return 0
