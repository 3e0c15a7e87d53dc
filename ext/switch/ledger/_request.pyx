# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A request as the ledger sees it: no wire format, no field numbers of one scheme.

The flow fills one in from a message (`switch.flow._dispatch`); tests fill one in from
keywords.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcpy, memset

from switch.ledger._entry cimport NO_INDEX, Trace


cdef bytes _padded(str text, Py_ssize_t size):
    cdef bytes data = text.encode("ascii")
    if len(data) > size:
        raise ValueError(f"expected at most {size} characters, got {len(data)}")
    return data.ljust(size)


cdef Trace _trace(tuple values) except *:
    """(message type, scheme, field 7, field 11, field 32), texts of digits."""
    cdef Trace trace
    mti, scheme, transmitted, stan, acquirer = values
    trace.mti = <int> int(mti, 16)
    trace.scheme = scheme
    trace.transmitted = int(transmitted)
    trace.stan = int(stan)
    trace.acquirer = int(acquirer or "0")
    return trace


cdef class Request:
    """What a scheme asks for, or tells. Money in minor units, `ABSENT` (-1): not said.

    `original` names the transaction that a reversal or a completion is about (field
    90) the way it named itself: message type, scheme, field 7, field 11, field 32.
    """

    def __cinit__(self):
        self.clear()

    def __init__(
        self, int kind=AUTHORISATION, *, bytes pan_hash=bytes(16), mti="0100",
        int scheme=0, transmitted="0101000000", stan="000001", acquirer="",
        rrn="", amount=None, int currency=0, billing_amount=None,
        int billing_currency=0, expiry=None, int processing_code=0,
        bint advice_approved=False, replacement_amount=None,
        replacement_billing_amount=None, tuple original=None,
        str terminal="", str merchant="", str merchant_name="", str last_four="",
        int merchant_category=0,
    ):
        cdef bytes data
        if len(pan_hash) != 16:
            raise ValueError(f"pan_hash: expected 16 bytes, got {len(pan_hash)}")
        self.kind = kind
        memcpy(self.body.pan_hash, PyBytes_AS_STRING(pan_hash), 16)
        self.body.trace = _trace((mti, scheme, transmitted, stan, acquirer))
        if original is not None:
            self.body.original = _trace(original)
        self.body.transaction_amount = ABSENT if amount is None else amount
        self.body.transaction_currency = currency
        self.body.processing_code = processing_code
        self.body.merchant_category = merchant_category
        self.billing_amount = ABSENT if billing_amount is None else billing_amount
        self.billing_currency = billing_currency
        self.expiry = ABSENT if expiry is None else expiry
        self.advice_approved = advice_approved
        if replacement_amount is not None:
            self.replacement_amount = replacement_amount
        if replacement_billing_amount is not None:
            self.replacement_billing_amount = replacement_billing_amount
        data = _padded(rrn, 12)
        memcpy(self.body.rrn, PyBytes_AS_STRING(data), 12)
        data = _padded(terminal, 8)
        memcpy(self.body.terminal, PyBytes_AS_STRING(data), 8)
        data = _padded(last_four, 4)
        memcpy(self.body.last_four, PyBytes_AS_STRING(data), 4)
        data = _padded(merchant, MERCHANT_SIZE_MAX)
        memcpy(self.merchant, PyBytes_AS_STRING(data), MERCHANT_SIZE_MAX)
        self.body.merchant_size = len(merchant)
        data = _padded(merchant_name, MERCHANT_NAME_SIZE_MAX)
        memcpy(self.merchant_name, PyBytes_AS_STRING(data), MERCHANT_NAME_SIZE_MAX)
        self.body.merchant_name_size = len(merchant_name)

    cdef void clear(self) noexcept:
        memset(&self.body, 0, sizeof(TransactionBody))
        memset(self.body.rrn, 32, 12)
        self.body.account = NO_INDEX
        self.body.card = NO_INDEX
        self.body.transaction_amount = ABSENT
        self.kind = AUTHORISATION
        self.billing_amount = ABSENT
        self.billing_currency = 0
        self.expiry = ABSENT
        self.advice_approved = False
        self.replacement_amount = ABSENT
        self.replacement_billing_amount = ABSENT
