# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Entries: what happened, in the form in which the journal keeps it.

An entry is packed as a header, a body of fixed size that depends on the kind, and
the texts of the body one after the other. Integers are little-endian, times are
milliseconds since 1970 (UTC), money is in minor units of the currency named by its
ISO 4217 number. The place of an entry in its shard (its *sequence*) is not packed:
a shard record says the first one and the rest follow.

    header        kind u8 | version u8 | size u16 (header included) | at i64
    account       balance i64 | credit limit i64 | currency u16 | texts
    card          PAN hash 16 | account u32 | expiry YYMM u16 | status u8
                  | last four digits 4 | sealed size u8 | texts | sealed
    change        PAN hash 16 | account u32 | card u32 | balance change i64 | value i64
                  | previous value i64 | currency u16 | last four digits 4 | texts
    texts         sizes of account name, operator and reason u8 each; then these three:
                  operator and reason are empty in an import. In version 2 then the
                  operation's key: hash of the key 16 | hash of what was asked for 16
    transaction   see TransactionBody in _entry.pxd; then account name, merchant
                  (field 42), merchant name and location (field 43)

Every change of money is written out in `balance_change` and `held_change`, whatever
the kind: the sum of the entries of an account is the account.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

cimport cython

import sys

if sys.byteorder != "little":
    raise ImportError("switch.ledger packs entries as little-endian structs")

KIND_NAMES = {
    ACCOUNT_OPENED: "account_opened",
    CARD_ISSUED: "card_issued",
    HELD: "held",
    POSTED: "posted",
    DECLINED: "declined",
    ADVISED_HOLD: "advised_hold",
    ADVISED_POSTING: "advised_posting",
    ADVICE_RECORDED: "advice_recorded",
    REVERSED: "reversed",
    REVERSAL_REMEMBERED: "reversal_remembered",
    HOLD_EXPIRED: "hold_expired",
    WITHDRAWN: "withdrawn",
    LIMIT_CHANGED: "limit_changed",
    ADJUSTED: "adjusted",
    CARD_STATUS_CHANGED: "card_status_changed",
    CARD_EXPIRY_CHANGED: "card_expiry_changed",
    ACCOUNT_STATUS_CHANGED: "account_status_changed",
}
ACCOUNT_STATUSES = ("active", "blocked", "closed")
CARD_STATUSES = ("active", "restricted", "lost", "stolen", "closed")


class EntryError(ValueError):
    """A packed entry that this version cannot read; says where and why."""


cdef inline str _text(const uint8_t* data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char*> data, size).decode("latin-1")


cdef bytes _fitting(object value, str name, Py_ssize_t size_min, Py_ssize_t size_max):
    """`value` as ASCII bytes within its limits, or a ValueError that says which."""
    cdef bytes data = value if isinstance(value, bytes) else str(value).encode("ascii")
    if not size_min <= len(data) <= size_max:
        raise ValueError(
            f"{name}: expected {size_min} to {size_max} bytes, got {len(data)}"
        )
    return data


cdef class Entry:
    """What all entries have: their kind, their place in the shard and their time."""

    @property
    def name(self):
        return KIND_NAMES[self.kind]

    def encode(self):
        """The packed entry, as the journal keeps it."""
        cdef uint8_t out[ENTRY_SIZE_MAX]
        cdef Py_ssize_t size = self.pack(out)
        return PyBytes_FromStringAndSize(<const char*> out, size)

    cdef Py_ssize_t pack(self, uint8_t* out) except -1:
        raise TypeError("only the kinds of entry can be packed")

    cdef int unpack(self, const uint8_t* data, Py_ssize_t size) except -1:
        raise TypeError("only the kinds of entry can be unpacked")


cdef inline void _put_header(
    Entry entry, Py_ssize_t size, uint8_t* out, uint8_t version=ENTRY_VERSION
) noexcept:
    cdef EntryHeader header
    header.kind = <uint8_t> entry.kind
    header.version = version
    header.size = <uint16_t> size
    header.at = entry.at
    memcpy(out, &header, sizeof(EntryHeader))


cdef int _expect_size(Py_ssize_t expected, Py_ssize_t got, str what) except -1:
    if expected != got:
        raise EntryError(f"{what} entry: expected {expected} bytes, got {got}")
    return 0


cdef class Attributed(Entry):
    """What is done to an account or a card: of which account, by whom, and why."""

    @property
    def account(self):
        return _text(self.text, self.sizes.name)

    @property
    def operator(self):
        return _text(self.text + self.sizes.name, self.sizes.operator_name)

    @property
    def reason(self):
        cdef Py_ssize_t start = <Py_ssize_t> self.sizes.name + self.sizes.operator_name
        return PyBytes_FromStringAndSize(
            <const char*> self.text + start, self.sizes.reason
        ).decode("utf-8", "replace")

    @property
    def operation_key(self):
        """Two hashes: of the key that it was asked for with, and of what was asked.
        None if there was no key."""
        if not self.is_keyed:
            return None
        return PyBytes_FromStringAndSize(
            <const char*> &self.operation, sizeof(OperationKey)
        )

    cdef int put_key(self, bytes operation_key) except -1:
        """None: it has no key."""
        cdef bytes key
        if operation_key is not None:
            key = _fitting(
                operation_key, "operation_key", sizeof(OperationKey),
                sizeof(OperationKey),
            )
            memcpy(&self.operation, <const char*> key, sizeof(OperationKey))
            self.is_keyed = True
        return 0

    cdef int put_texts(
        self, object account, object operator, object reason
    ) except -1:
        cdef bytes name = _fitting(account, "account", 1, ACCOUNT_NAME_SIZE_MAX)
        cdef bytes who = _fitting(operator, "operator", 0, OPERATOR_SIZE_MAX)
        cdef bytes why = _fitting(
            reason.encode("utf-8"), "reason", 0, REASON_SIZE_MAX
        )
        self.sizes.name = <uint8_t> len(name)
        self.sizes.operator_name = <uint8_t> len(who)
        self.sizes.reason = <uint8_t> len(why)
        memcpy(self.text, <const char*> name, len(name))
        memcpy(self.text + len(name), <const char*> who, len(who))
        memcpy(self.text + len(name) + len(who), <const char*> why, len(why))
        return 0

    cdef uint8_t* body_start(self) noexcept:
        return NULL

    cdef Py_ssize_t body_size(self) noexcept:
        return 0

    cdef Py_ssize_t pack(self, uint8_t* out) except -1:
        cdef uint8_t* at = out + sizeof(EntryHeader)
        cdef Py_ssize_t texts = _texts_size(&self.sizes)
        memcpy(at, self.body_start(), self.body_size())
        at += self.body_size()
        memcpy(at, &self.sizes, sizeof(TextSizes))
        at += sizeof(TextSizes)
        memcpy(at, self.text, texts)
        at += texts
        if self.is_keyed:
            memcpy(at, &self.operation, sizeof(OperationKey))
            at += sizeof(OperationKey)
        self.put_header(at - out, out)
        return at - out

    cdef void put_header(self, Py_ssize_t size, uint8_t* out) noexcept:
        _put_header(
            self, size, out, ENTRY_VERSION_KEYED if self.is_keyed else ENTRY_VERSION
        )

    cdef int unpack(self, const uint8_t* data, Py_ssize_t size) except -1:
        """Takes what all have; raises unless the data ends there."""
        cdef Py_ssize_t used = self.unpack_start(data, size)
        _expect_size(used, size, self.name)
        return 0

    cdef Py_ssize_t unpack_start(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t head = self.body_size() + <Py_ssize_t> sizeof(TextSizes)
        cdef Py_ssize_t key = sizeof(OperationKey) if self.is_keyed else 0
        cdef Py_ssize_t texts
        if size < head:
            _expect_size(head, size, self.name)
        memcpy(self.body_start(), data, self.body_size())
        memcpy(&self.sizes, data + self.body_size(), sizeof(TextSizes))
        texts = _texts_size(&self.sizes)
        if size < head + texts + key:
            _expect_size(head + texts + key, size, self.name)
        if not 1 <= self.sizes.name <= ACCOUNT_NAME_SIZE_MAX:
            raise EntryError(
                f"{self.name} entry: account name of {self.sizes.name} bytes"
            )
        if texts > CHANGE_TEXT_SIZE_MAX:
            raise EntryError(f"{self.name} entry: texts of {texts} bytes")
        memcpy(self.text, data + head, texts)
        memcpy(&self.operation, data + head + texts, key)
        return head + texts + key


cdef inline Py_ssize_t _texts_size(TextSizes* sizes) noexcept:
    return <Py_ssize_t> sizes.name + sizes.operator_name + sizes.reason


cdef class AccountOpened(Attributed):
    """An account with its first balance and its credit limit (minor units)."""

    def __init__(
        self, account, int currency, int64_t balance, int64_t credit_limit,
        *, int64_t at, uint64_t sequence=0, operator="", reason="",
        operation_key=None,
    ):
        self.put_texts(account, operator, reason)
        self.put_key(operation_key)
        self.kind = ACCOUNT_OPENED
        self.at = at
        self.sequence = sequence
        self.body.balance = balance
        self.body.credit_limit = credit_limit
        self.body.currency = <uint16_t> currency

    @property
    def currency(self):
        return self.body.currency

    @property
    def balance(self):
        return self.body.balance

    @property
    def credit_limit(self):
        return self.body.credit_limit

    cdef uint8_t* body_start(self) noexcept:
        return <uint8_t*> &self.body

    cdef Py_ssize_t body_size(self) noexcept:
        return sizeof(AccountBody)


cdef class CardIssued(Attributed):
    """A card of an account. The PAN is there twice: as a keyed hash, and sealed."""

    def __init__(
        self, bytes pan_hash, bytes sealed_pan, account, uint32_t account_index,
        int expiry, int status, str last_four, *, int64_t at, uint64_t sequence=0,
        operator="", reason="", operation_key=None,
    ):
        cdef bytes hashed = _fitting(pan_hash, "pan_hash", PAN_HASH_SIZE, PAN_HASH_SIZE)
        cdef bytes sealed = _fitting(sealed_pan, "sealed_pan", 0, SEALED_PAN_SIZE_MAX)
        cdef bytes four = _fitting(last_four, "last_four", 4, 4)
        if not 0 <= status < len(CARD_STATUSES):
            raise ValueError(f"status: expected 0 to 4, got {status}")
        self.put_texts(account, operator, reason)
        self.put_key(operation_key)
        self.kind = CARD_ISSUED
        self.at = at
        self.sequence = sequence
        self.body.account = account_index
        self.body.expiry = <uint16_t> expiry
        self.body.status = <uint8_t> status
        self.body.sealed_pan_size = <uint8_t> len(sealed)
        memcpy(self.body.pan_hash, <const char*> hashed, PAN_HASH_SIZE)
        memcpy(self.body.last_four, <const char*> four, 4)
        memcpy(self.sealed, <const char*> sealed, len(sealed))

    @property
    def account_index(self):
        return self.body.account

    @property
    def pan_hash(self):
        return PyBytes_FromStringAndSize(
            <const char*> self.body.pan_hash, PAN_HASH_SIZE
        )

    @property
    def sealed_pan(self):
        return PyBytes_FromStringAndSize(
            <const char*> self.sealed, self.body.sealed_pan_size
        )

    @property
    def expiry(self):
        return self.body.expiry

    @property
    def status(self):
        return self.body.status

    @property
    def last_four(self):
        return _text(self.body.last_four, 4)

    cdef uint8_t* body_start(self) noexcept:
        return <uint8_t*> &self.body

    cdef Py_ssize_t body_size(self) noexcept:
        return sizeof(CardBody)

    cdef Py_ssize_t pack(self, uint8_t* out) except -1:
        cdef Py_ssize_t start = Attributed.pack(self, out)
        memcpy(out + start, self.sealed, self.body.sealed_pan_size)
        self.put_header(start + self.body.sealed_pan_size, out)
        return start + self.body.sealed_pan_size

    cdef int unpack(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t start = self.unpack_start(data, size)
        _expect_size(start + self.body.sealed_pan_size, size, self.name)
        if self.body.sealed_pan_size > SEALED_PAN_SIZE_MAX:
            raise EntryError(
                f"{self.name} entry: seal of {self.body.sealed_pan_size} bytes"
            )
        memcpy(self.sealed, data + start, self.body.sealed_pan_size)
        return 0


cdef class Change(Attributed):
    """What an operator changed: one value of an account or a card, before and after.

    Made by `switch.ledger._administer`.
    """

    @property
    def account_index(self):
        return self.body.account

    @property
    def card_index(self):
        return None if self.body.card == NO_INDEX else self.body.card

    @property
    def pan_hash(self):
        """Of the card; sixteen zeros when it is about the account."""
        return PyBytes_FromStringAndSize(
            <const char*> self.body.pan_hash, PAN_HASH_SIZE
        )

    @property
    def last_four(self):
        return _text(self.body.last_four, 4).rstrip("\0")

    @property
    def currency(self):
        return self.body.currency

    @property
    def balance_change(self):
        return self.body.balance_change

    @property
    def value(self):
        """Credit limit, balance, number of the status or expiry, as the kind says."""
        return self.body.value

    @property
    def previous(self):
        return self.body.previous

    cdef uint8_t* body_start(self) noexcept:
        return <uint8_t*> &self.body

    cdef Py_ssize_t body_size(self) noexcept:
        return sizeof(ChangeBody)


@cython.freelist(8)
cdef class Transaction(Entry):
    """A request, advice or reversal as it was decided, or what became of it later."""

    @property
    def account(self):
        return _text(self.text, self.body.name_size)

    @property
    def account_index(self):
        return None if self.body.account == NO_INDEX else self.body.account

    @property
    def card_index(self):
        return None if self.body.card == NO_INDEX else self.body.card

    @property
    def pan_hash(self):
        return PyBytes_FromStringAndSize(
            <const char*> self.body.pan_hash, PAN_HASH_SIZE
        )

    @property
    def last_four(self):
        return _text(self.body.last_four, 4).rstrip("\0")

    @property
    def amount(self):
        return self.body.amount

    @property
    def balance_change(self):
        return self.body.balance_change

    @property
    def held_change(self):
        return self.body.held_change

    @property
    def currency(self):
        return self.body.currency

    @property
    def transaction_amount(self):
        return self.body.transaction_amount

    @property
    def transaction_currency(self):
        return self.body.transaction_currency

    @property
    def approved(self):
        return bool(self.body.flags & FLAG_APPROVED)

    @property
    def forced(self):
        return bool(self.body.flags & FLAG_FORCED)

    @property
    def credit(self):
        return bool(self.body.flags & FLAG_CREDIT)

    @property
    def reversed_before(self):
        return bool(self.body.flags & FLAG_REVERSED_BEFORE)

    @property
    def response_code(self):
        return _text(self.body.response_code, 2)

    @property
    def mti(self):
        return f"{self.body.trace.mti:04x}"

    @property
    def scheme(self):
        return self.body.trace.scheme

    @property
    def stan(self):
        return f"{self.body.trace.stan:06d}"

    @property
    def transmitted(self):
        return f"{self.body.trace.transmitted:010d}"

    @property
    def acquirer(self):
        return str(self.body.trace.acquirer) if self.body.trace.acquirer else ""

    @property
    def rrn(self):
        return _text(self.body.rrn, RRN_SIZE).rstrip(" \0")

    @property
    def terminal(self):
        return _text(self.body.terminal, 8).rstrip(" \0")

    @property
    def merchant(self):
        return _text(self.text + self.body.name_size, self.body.merchant_size)

    @property
    def merchant_name(self):
        return _text(
            self.text + self.body.name_size + self.body.merchant_size,
            self.body.merchant_name_size,
        )

    @property
    def merchant_category(self):
        return self.body.merchant_category

    @property
    def processing_code(self):
        return f"{self.body.processing_code:06d}"

    @property
    def original_sequence(self):
        return self.body.original_sequence

    @property
    def original_stan(self):
        return f"{self.body.original.stan:06d}" if self.body.original.mti else ""

    @property
    def hold_expires_at(self):
        return self.body.hold_expires_at

    cdef Py_ssize_t pack(self, uint8_t* out) except -1:
        cdef Py_ssize_t head = sizeof(EntryHeader) + sizeof(TransactionBody)
        cdef Py_ssize_t text_size = _text_size(&self.body)
        _put_header(self, head + text_size, out)
        memcpy(out + sizeof(EntryHeader), &self.body, sizeof(TransactionBody))
        memcpy(out + head, self.text, text_size)
        return head + text_size

    cdef int unpack(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t head = sizeof(TransactionBody)
        cdef Py_ssize_t text_size
        if size < head:
            _expect_size(head, size, "transaction")
        memcpy(&self.body, data, head)
        text_size = _text_size(&self.body)
        _expect_size(head + text_size, size, "transaction")
        if text_size > TEXT_SIZE_MAX:
            raise EntryError(f"transaction entry: texts of {text_size} bytes")
        memcpy(self.text, data + head, text_size)
        return 0


cdef inline Py_ssize_t _text_size(TransactionBody* body) noexcept:
    return <Py_ssize_t> body.name_size + body.merchant_size + body.merchant_name_size


cdef Entry unpack_entry(const uint8_t* data, Py_ssize_t size, uint64_t sequence):
    """The entry at `data`; `size` is all there is from here on."""
    cdef EntryHeader header
    cdef Entry entry
    if size < <Py_ssize_t> sizeof(EntryHeader):
        raise EntryError(
            f"entry {sequence}: expected a header of {sizeof(EntryHeader)} bytes, "
            f"got {size}"
        )
    memcpy(&header, data, sizeof(EntryHeader))
    if header.version not in (ENTRY_VERSION, ENTRY_VERSION_KEYED):
        raise EntryError(
            f"entry {sequence}: expected version {ENTRY_VERSION} or "
            f"{ENTRY_VERSION_KEYED}, got {header.version}"
        )
    if not <Py_ssize_t> sizeof(EntryHeader) <= header.size <= size:
        raise EntryError(f"entry {sequence}: size {header.size} with {size} bytes left")
    if header.kind == ACCOUNT_OPENED:
        entry = AccountOpened.__new__(AccountOpened)
    elif header.kind == CARD_ISSUED:
        entry = CardIssued.__new__(CardIssued)
    elif HELD <= header.kind <= WITHDRAWN:
        entry = Transaction.__new__(Transaction)
    elif LIMIT_CHANGED <= header.kind <= ACCOUNT_STATUS_CHANGED:
        entry = Change.__new__(Change)
    else:
        raise EntryError(f"entry {sequence}: unknown kind {header.kind}")
    if header.version == ENTRY_VERSION_KEYED:
        if not isinstance(entry, Attributed):
            raise EntryError(
                f"entry {sequence}: expected version {ENTRY_VERSION} of kind "
                f"{header.kind}, got {header.version}"
            )
        (<Attributed> entry).is_keyed = True
    entry.kind = header.kind
    entry.at = header.at
    entry.sequence = sequence
    entry.unpack(data + sizeof(EntryHeader), header.size - sizeof(EntryHeader))
    return entry


def decode_entries(const uint8_t[::1] payload not None, uint64_t first_sequence):
    """The entries of one shard record, in order. Raises EntryError."""
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t size = payload.shape[0]
    cdef uint64_t sequence = first_sequence
    cdef list entries = []
    cdef EntryHeader header
    while offset < size:
        entries.append(unpack_entry(&payload[offset], size - offset, sequence))
        memcpy(&header, &payload[offset], sizeof(EntryHeader))
        offset += header.size
        sequence += 1
    return entries
