# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The row of a transaction. They are most of all rows."""

from libc.stdint cimport uint8_t, uint64_t

from switch.ledger._entry cimport Transaction, TransactionBody
from switch.ledger._texts cimport (
    digits_of, filled_text_of, mti_of, text_of, token_of,
)
from switch.publish._event_fields cimport currency_of

from switch.ledger import _entry as entries
from switch.publish import _event_fields as event_fields

cdef enum:
    PLACE_SHARD_BITS = 16

cdef dict KIND_NAMES = entries.KIND_NAMES
cdef dict APPROVED = event_fields.APPROVED


cpdef uint64_t place_of(int shard, uint64_t sequence):
    """The key of a transaction's row: almost in time order over all shards."""
    return sequence << PLACE_SHARD_BITS | <uint64_t> shard


def transaction_row(Transaction entry not None, int shard, uint64_t commit):
    """The values of `schema.INSERT_TRANSACTION`."""
    cdef TransactionBody* body = &entry.body
    cdef const uint8_t* merchant = entry.text + body.name_size
    cdef str name = KIND_NAMES[entry.kind]
    cdef str account = text_of(entry.text, body.name_size) if body.name_size else None
    return (
        place_of(shard, entry.sequence),
        commit,
        entry.at,
        name,
        account,
        token_of(body.pan_hash),
        filled_text_of(body.last_four, 4),
        body.amount if account is not None else None,
        currency_of(body.currency) if account is not None else None,
        body.balance_change,
        body.held_change,
        APPROVED.get(name),
        filled_text_of(body.response_code, 2),
        mti_of(body.trace.mti),
        digits_of(body.trace.stan, 6),
        filled_text_of(body.rrn, 12),
        filled_text_of(merchant, body.merchant_size),
        filled_text_of(merchant + body.merchant_size, body.merchant_name_size),
        digits_of(body.merchant_category, 4) if body.merchant_category else None,
        filled_text_of(body.terminal, 8),
        body.transaction_amount,
        currency_of(body.transaction_currency) if body.transaction_currency else None,
        place_of(shard, body.original_sequence) if body.original_sequence else None,
    )
