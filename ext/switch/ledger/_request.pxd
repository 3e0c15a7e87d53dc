# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint64_t

from switch.ledger._entry cimport (
    MERCHANT_NAME_SIZE_MAX, MERCHANT_SIZE_MAX, TransactionBody,
)

cdef enum RequestKind:
    AUTHORISATION = 1           # 0100: holds
    FINANCIAL = 2               # 0200: posts
    AUTHORISATION_ADVICE = 3    # 0120: a hold that somebody else decided
    FINANCIAL_ADVICE = 4        # 0220: a posting that somebody else decided
    REVERSAL = 5                # 0400, 0420

cdef enum:
    ABSENT = -1


cdef class Request:
    cdef readonly int kind
    # what goes into the entry as it is: PAN hash, traces, transaction amount and
    # currency, processing code, merchant category, RRN, terminal, last four digits
    cdef TransactionBody body
    cdef readonly int64_t billing_amount
    cdef readonly int billing_currency
    cdef readonly int expiry
    cdef readonly bint advice_approved
    cdef readonly int64_t replacement_amount
    cdef readonly int64_t replacement_billing_amount
    cdef uint8_t merchant[MERCHANT_SIZE_MAX]
    cdef uint8_t merchant_name[MERCHANT_NAME_SIZE_MAX]

    cdef void clear(self) noexcept
