# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""From a message to its flow, and from a decision to its reply.

A message that is well formed becomes a `Request`, goes to the shard that owns its
card, and what the shard decided becomes a reply, held until it is durable. What is
missing or not of its kind (letters in an amount) is answered 30 here, and nothing is
remembered of it. What is for a shard of another node is left to the caller.

Field numbers and formats: ISO 8583:1987, 4.3.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy, memset

cimport cython

from switch.keys._pan_hash cimport PanHash
from switch.ledger._entry cimport (
    MERCHANT_NAME_SIZE_MAX, MERCHANT_SIZE_MAX, MESSAGE_TYPES, NETWORK_TYPE, OTHER_TYPE,
    Trace, message_type_number,
)
from switch.ledger._request cimport (
    ABSENT, AUTHORISATION, AUTHORISATION_ADVICE, FINANCIAL, FINANCIAL_ADVICE, REVERSAL,
)

from iso8583 import dialect as dialects
from switch.flow import replies as tables

cdef enum:
    REPLY_ROOM = 160        # above the request's size: hex bitmap, fields 38 and 39
    TEXT_ROOM = 64
    PAN_DIGITS_MIN = 8      # ISO/IEC 7812-1: 8 to 19
    PAN_DIGITS_MAX = 19
    CARD_DIGITS_MIN = 13    # of what is taken for a card number in free text
    PAN_HASH_SIZE = 16
    LOOKED_UP_HERE = -1

# Field 39 of an approval that came too late; `decide_withdrawal` stores the same.
WITHDRAWN_CODE = "91"

cdef tuple FLOW_NAMES = (
    "0100", "0200", "0120", "0220", "0400", "0420", "0800", "other",
)


cdef int KINDS[MESSAGE_TYPES]
KINDS[:] = [
    AUTHORISATION, FINANCIAL, AUTHORISATION_ADVICE, FINANCIAL_ADVICE, REVERSAL,
    REVERSAL, 0, 0,
]


cdef inline uint32_t _without_repeat(uint32_t mti) noexcept:
    """0101 asks what 0100 asked: its last digit is cleared (only 1 is a repeat)."""
    return mti & 0xFFF0 if mti & 0xF == 1 else mti


cdef Outcome _nature(uint32_t mti) noexcept:
    cdef uint32_t function = (mti >> 4) & 0xF
    if function & 1:
        return RESPONSE
    if function != 0 and function != 2:
        return UNANSWERABLE
    return NETWORK if mti == 0x0800 or mti == 0x0820 else ANSWERED


cdef list _defined(Codec codec, tuple fields):
    """Of these fields, those that the specification has."""
    return [field for field in fields if field in codec.spec.fields]


@cython.final
cdef class Dispatcher:
    """The flows of one link: its codec, its scheme number, its counts.

    `hash_pan` is the keyed hash that cards are found by (`switch.keys`).
    `dialect` says which fields its replies carry beside those of the tables.
    """

    def __init__(
        self, Codec codec not None, CardDirectory directory not None,
        CommitGroup group not None, PanHash hash_pan not None, *, int scheme=0,
        dialect=dialects.STANDARD,
    ):
        if not 0 <= scheme < 128:
            raise ValueError(f"scheme: expected 0 to 127, got {scheme}")
        self.codec = codec
        self.directory = directory
        self.group = group
        self.scheme = scheme
        self.dialect = dialect
        self._hash_pan = hash_pan
        self._request = Request()
        self._templates = {
            int(mti, 16): ReplyTemplate(
                codec, answer, _defined(codec, usual + dialect.echoed)
            )
            for mti, (answer, usual) in tables.REPLIES.items()
        }

    def counts(self):
        """{(message type, response code): answers} since the start."""
        return {
            (FLOW_NAMES[flow], f"{code:02d}"): self._counts[flow][code]
            for flow in range(MESSAGE_TYPES)
            for code in range(100)
            if self._counts[flow][code]
        }

    cdef int handle(self, Message message, ReplyBuffer replies, int64_t now) except -1:
        """One message in; its reply, if it gets one here, is held in `replies`.

        Returns an `Outcome`: what is left to do for the caller. What the peer rejects
        is what we sent, so it counts as a response whatever its type.
        """
        return _handle(self, message, replies, now, LOOKED_UP_HERE, False)

    cdef int handle_at(
        self, Message message, ReplyBuffer replies, int64_t now, int number,
        bint is_void,
    ) except -1:
        """`handle` for a message whose shard has been looked up. `is_void`: it has been
        answered 91 already, and this makes it true."""
        if not 0 <= number < len(self.group.slots):
            return ELSEWHERE
        return _handle(self, message, replies, now, number, is_void)

    cdef bytes pan_hash(self):
        """That of the message read last."""
        return PyBytes_FromStringAndSize(
            <char*> self._request.body.pan_hash, PAN_HASH_SIZE
        )

    cdef bint asks(self) noexcept:
        """Whether the message read last asks what to do, and can be told no."""
        return _asks(self._request)

    cdef bytes declined(self, bytes body):
        """This approval, which was withdrawn, as a decline."""
        message = self.codec.decode(body)
        del message[38]
        message[39] = WITHDRAWN_CODE
        return message.encode()

    cdef bytes refusal(self, bytes body, str response_code):
        """The reply to this request with nothing decided."""
        cdef Message message = self.codec.decode_frame(body)
        cdef ReplyTemplate template = self._template(
            _without_repeat(message.mti_number)
        )
        return template.build(message, response_code)

    cdef int count_passed(self, uint32_t mti, Message reply) except -1:
        """Counts a reply that was made elsewhere, to a message of this type."""
        cdef uint8_t code[TEXT_ROOM]
        if reply.text(39, code, TEXT_ROOM) != 2 or _digits_at(code, 2) != 2:
            raise ValueError(f"expected field 39 of two digits in {reply.mti}")
        return self._count(_without_repeat(mti), code)

    cdef int refuse(
        self, Message message, ReplyBuffer replies, const char* response_code
    ) except -1:
        """Answers with nothing decided and nothing remembered, if it can be answered.

        `message` may be partial: what could be read of it is echoed.
        """
        if (
            message.is_rejected()
            or _nature(_without_repeat(message.mti_number)) == RESPONSE
        ):
            return RESPONSE
        if _nature(_without_repeat(message.mti_number)) == UNANSWERABLE:
            return UNANSWERABLE
        self._reply(message, replies, NULL, <const uint8_t*> response_code)
        return ANSWERED

    cdef int _reply(
        self, Message message, ReplyBuffer replies, const uint8_t* approval_code,
        const uint8_t* response_code,
    ) except -1:
        cdef uint32_t mti = _without_repeat(message.mti_number)
        cdef ReplyTemplate template = self._template(mti)
        cdef Py_ssize_t room = len(message.frame) + REPLY_ROOM
        cdef uint8_t* body = replies.open(room)
        cdef Py_ssize_t size = template.write(
            message, body, room, approval_code, response_code
        )
        replies.close(size)
        self.group.hold(replies)
        self._count(mti, response_code)
        return 0

    cdef ReplyTemplate _template(self, uint32_t mti):
        cdef object template = self._templates.get(mti)
        if template is None:
            if message_type_number(mti) < NETWORK_TYPE:
                raise KeyError(f"no reply table for {mti:04x}")
            # of the thousands that a peer could send none is kept
            template = ReplyTemplate(
                self.codec, f"{mti + 0x10:04x}", _defined(self.codec, tables.OTHERS)
            )
        return <ReplyTemplate> template

    cdef int _count(self, uint32_t mti, const uint8_t* response_code) noexcept:
        cdef int code = (response_code[0] - 48) * 10 + response_code[1] - 48
        self._counts[message_type_number(mti)][code] += 1
        return 0

    # --- from fields to a request; False: something is missing or not of its kind ---

    cdef bint _fill(self, Request request, Message message, uint32_t mti) except -1:
        if not self._fill_trace(request, message, mti):
            return False
        if not self._fill_card(request, message):
            return False
        if not _fill_amounts(request, message):
            return False
        if request.kind == REVERSAL or request.kind == FINANCIAL_ADVICE:
            if not self._fill_original(request, message):
                return False
        if (
            request.kind == AUTHORISATION_ADVICE or request.kind == FINANCIAL_ADVICE
        ):
            request.advice_approved = _says_approved(message)
        _fill_merchant(request, message)
        return True

    cdef bint _fill_trace(
        self, Request request, Message message, uint32_t mti
    ) noexcept:
        """Fields 7, 11, 32, 37: what makes it this transaction and no other."""
        cdef Trace* trace = &request.body.trace
        cdef int64_t transmitted = message.number(7)
        cdef int64_t stan = message.number(11)
        cdef int64_t acquirer = message.number(32)
        cdef uint8_t rrn[TEXT_ROOM]
        cdef Py_ssize_t size = message.text(37, rrn, TEXT_ROOM)
        if not 0 <= transmitted < 10000000000 or not 0 <= stan < 1000000:
            return False
        if acquirer == -2 or size == -2 or size > 12:
            return False
        trace.mti = <uint16_t> mti
        trace.scheme = <uint8_t> self.scheme
        trace.transmitted = transmitted
        trace.stan = <uint32_t> stan
        trace.acquirer = acquirer if acquirer > 0 else 0
        if size > 0:
            memcpy(request.body.rrn, rrn, size)
        return True

    cdef bint _fill_card(self, Request request, Message message) noexcept:
        """Fields 2 and 14; what is absent is taken from track 2 (field 35)."""
        cdef uint8_t text[TEXT_ROOM]
        cdef uint8_t track[TEXT_ROOM]
        cdef int64_t expiry = message.number(14)
        cdef Py_ssize_t size = message.text(2, text, TEXT_ROOM)
        cdef Py_ssize_t track_size = -1
        cdef Py_ssize_t separator = 0
        if expiry == -2 or size == -2:
            return False
        if expiry == ABSENT or size == ABSENT:
            track_size = message.text(35, track, TEXT_ROOM)
            separator = _digits_at(track, track_size)
        if size == ABSENT:
            size = separator
            memcpy(text, track, size)
        elif _digits_at(text, size) != size:
            return False
        if expiry == ABSENT and track_size - separator > 4:
            expiry = _number_at(track + separator + 1, 4)
        memset(track, 0, TEXT_ROOM)
        if not PAN_DIGITS_MIN <= size <= PAN_DIGITS_MAX:
            return False
        request.expiry = <int> expiry
        self._hash_pan.write(text, size, request.body.pan_hash)
        memcpy(request.body.last_four, text + size - 4, 4)
        memset(text, 0, TEXT_ROOM)
        return True

    cdef bint _fill_original(self, Request request, Message message) noexcept:
        """Field 90: message type, STAN, date and time, acquirer, forwarder."""
        cdef uint8_t text[TEXT_ROOM]
        cdef Py_ssize_t size = message.text(90, text, TEXT_ROOM)
        cdef Trace* original = &request.body.original
        cdef uint32_t mti
        if size == -1:
            # a posting may stand alone, a reversal may not
            return request.kind == FINANCIAL_ADVICE
        if size != 42 or _digits_at(text, 42) != 42:
            return False
        mti = _hexadecimal_at(text, 4)
        original.mti = <uint16_t> _without_repeat(mti)
        original.stan = <uint32_t> _number_at(text + 4, 6)
        original.transmitted = _number_at(text + 10, 10)
        original.acquirer = _number_at(text + 20, 11)
        original.scheme = <uint8_t> self.scheme
        if original.acquirer == 0:
            original.acquirer = request.body.trace.acquirer
        return _fill_replacement(request, message)


cdef inline int _handle(
    Dispatcher self, Message message, ReplyBuffer replies, int64_t now, int number,
    bint is_void,
) except -1:
    """In shard `number`, or in that of the message's card."""
    cdef uint32_t mti = _without_repeat(message.mti_number)
    cdef Outcome nature = _nature(mti)
    cdef Request request = self._request
    cdef Decision decision
    cdef Shard shard
    cdef int flow
    if message.is_rejected():
        return RESPONSE
    if nature != ANSWERED:
        return nature
    flow = message_type_number(mti)
    if flow == OTHER_TYPE:
        self.refuse(message, replies, b"12")
        return NOT_SERVED
    request.clear()
    request.kind = KINDS[flow]
    if not self._fill(request, message, mti):
        self.refuse(message, replies, b"30")
        return MALFORMED
    if number == LOOKED_UP_HERE:
        number = self.directory.shard_of(request.body.pan_hash)
    shard = self.group.slots[number]
    if shard is None:
        return ELSEWHERE
    if is_void:
        if not _asks(request):
            return UNANSWERABLE
        decision = shard.make_void(request, now)
        if decision.entry is None and not decision.repeated:
            return UNDECIDED    # and no reply: it is not true yet
    else:
        decision = shard.admit(request, now)
    self.repeated += decision.repeated
    self._reply(
        message, replies, decision.approval if decision.approved else NULL,
        decision.code,
    )
    if decision.approved:
        replies.mark_approval(shard.state.shard, decision.sequence, decision.repeated)
    elif decision.entry is None and not decision.repeated:
        return UNDECIDED
    return ANSWERED


cdef inline bint _asks(Request request) noexcept:
    return request.kind == AUTHORISATION or request.kind == FINANCIAL


cdef bint _fill_amounts(Request request, Message message) noexcept:
    """Fields 3, 4, 6, 49, 51. An amount in neither is malformed, but for a reversal."""
    cdef int64_t amount = message.number(4)
    cdef int64_t billing = message.number(6)
    cdef int64_t processing_code = message.number(3)
    cdef int64_t currency = message.number(49)
    cdef int64_t billing_currency = message.number(51)
    if amount == -2 or billing == -2 or processing_code == -2:
        return False
    if request.kind != REVERSAL and (
        processing_code == ABSENT or (amount == ABSENT and billing == ABSENT)
    ):
        return False
    request.body.transaction_amount = amount
    request.billing_amount = billing
    request.body.processing_code = (
        <uint32_t> processing_code if processing_code > 0 else 0
    )
    # letters instead of numbers: a currency that no account has
    request.body.transaction_currency = <uint16_t> currency if currency > 0 else 0
    request.billing_currency = <int> billing_currency if billing_currency > 0 else 0
    return True


cdef bint _fill_replacement(Request request, Message message) noexcept:
    """Field 95: what stays of the original, in the transaction's currency and, where
    the scheme puts it there (Mastercard CIS, DE 95), in the cardholder's.
    """
    cdef uint8_t text[TEXT_ROOM]
    cdef Py_ssize_t size = message.text(95, text, TEXT_ROOM)
    cdef int64_t billing
    if size == -1:
        return True
    if size != 42 or _digits_at(text, 12) != 12:
        return False
    if _number_at(text, 12) == 0:
        return True
    request.replacement_amount = _number_at(text, 12)
    billing = _number_at(text + 24, 12)
    request.replacement_billing_amount = billing if billing > 0 else ABSENT
    return True


cdef bint _says_approved(Message message):
    cdef uint8_t code[TEXT_ROOM]
    cdef Py_ssize_t size = message.text(39, code, TEXT_ROOM)
    if size != 2:
        return False
    if memcmp(code, b"00", 2) == 0:
        return True
    return PyBytes_FromStringAndSize(<char*> code, 2).decode() in tables.ADVICE_APPROVED


cdef void _fill_merchant(Request request, Message message) noexcept:
    """Fields 18, 41, 42, 43: nothing is decided by them, so odd ones are left out."""
    cdef uint8_t text[TEXT_ROOM]
    cdef int64_t category = message.number(18)
    cdef Py_ssize_t size = message.text(41, text, 8)
    if 0 < category < 10000:
        request.body.merchant_category = <uint16_t> category
    memset(request.body.terminal, 32, 8)
    if size > 0:
        memcpy(request.body.terminal, text, size)
    size = _trimmed(text, message.text(42, text, MERCHANT_SIZE_MAX))
    _mask_cards(text, size)
    memcpy(request.merchant, text, size)
    request.body.merchant_size = <uint8_t> size
    size = _trimmed(text, message.text(43, text, MERCHANT_NAME_SIZE_MAX))
    _mask_cards(text, size)
    memcpy(request.merchant_name, text, size)
    request.body.merchant_name_size = <uint8_t> size


cdef void _mask_cards(uint8_t* text, Py_ssize_t size) noexcept:
    """Free text goes into the journal and the events: a card number in it does not."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count
    while at < size:
        count = _digits_at(text + at, size - at)
        if CARD_DIGITS_MIN <= count <= PAN_DIGITS_MAX and _has_check_digit(
            text + at, count
        ):
            memset(text + at, 42, count)
        at += count + 1


cdef bint _has_check_digit(const uint8_t* digits, Py_ssize_t size) noexcept:
    """Luhn, ISO/IEC 7812-1 annex B."""
    cdef int total = 0
    cdef int value
    cdef Py_ssize_t i
    for i in range(size):
        value = (digits[size - 1 - i] - 48) * (1 + i % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


cdef inline Py_ssize_t _trimmed(const uint8_t* text, Py_ssize_t size) noexcept:
    while size > 0 and text[size - 1] == 32:
        size -= 1
    return size if size > 0 else 0


cdef inline Py_ssize_t _digits_at(const uint8_t* text, Py_ssize_t size) noexcept:
    """How many digits stand at the start of `text`."""
    cdef Py_ssize_t count = 0
    while count < size and 48 <= text[count] <= 57:
        count += 1
    return count


cdef inline int64_t _number_at(const uint8_t* text, Py_ssize_t size) noexcept:
    """A number of `size` digits, or ABSENT if they are not all digits."""
    cdef int64_t number = 0
    cdef Py_ssize_t i
    for i in range(size):
        if not 48 <= text[i] <= 57:
            return ABSENT
        number = number * 10 + (text[i] - 48)
    return number


cdef inline uint32_t _hexadecimal_at(const uint8_t* text, Py_ssize_t size) noexcept:
    cdef uint32_t number = 0
    cdef Py_ssize_t i
    for i in range(size):
        number = (number << 4) | (text[i] - 48)
    return number
