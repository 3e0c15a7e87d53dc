# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cimport cython

from iso8583._codec cimport Codec, Message, ReplyTemplate
from switch.keys._pan_hash cimport PanHash
from switch.ledger._decide cimport Decision
from switch.ledger._request cimport Request
from switch.shard._directory cimport CardDirectory
from switch.shard._group cimport CommitGroup, ReplyBuffer, Shard

cdef enum Outcome:
    ANSWERED = 0        # a reply is in the buffer; the caller holds it
    NETWORK = 1         # an 0800: the session answers it
    RESPONSE = 2        # an answer to something we asked, or to nothing
    UNANSWERABLE = 3    # not a request or an advice: nothing can be answered
    # As ANSWERED, and nothing is remembered of the message:
    NOT_SERVED = 4      # 12: of a type that is not served
    MALFORMED = 5       # 30: something is missing, or not of its kind
    UNDECIDED = 6       # 91, 94: there was no room for a decision
    # Nothing has happened: its card or its shard is not here.
    ELSEWHERE = 7


@cython.final
cdef class Dispatcher:
    cdef readonly Codec codec
    cdef readonly CardDirectory directory
    cdef readonly CommitGroup group
    cdef readonly int scheme
    cdef readonly object dialect
    cdef readonly uint64_t repeated         # answered as they were the first time
    cdef PanHash _hash_pan
    cdef Request _request
    cdef dict _templates
    cdef uint64_t _counts[8][100]           # flows x response codes

    cdef int handle(self, Message message, ReplyBuffer replies, int64_t now) except -1
    cdef int handle_at(
        self, Message message, ReplyBuffer replies, int64_t now, int number,
        bint is_void) except -1
    cdef bytes pan_hash(self)
    cdef bint asks(self) noexcept
    cdef bytes declined(self, bytes body)
    cdef bytes refusal(self, bytes body, str response_code)
    cdef int count_passed(self, uint32_t mti, Message reply) except -1
    cdef int refuse(
        self, Message message, ReplyBuffer replies, const char* response_code) except -1
    cdef int _reply(
        self, Message message, ReplyBuffer replies, const uint8_t* approval_code,
        const uint8_t* response_code) except -1
    cdef ReplyTemplate _template(self, uint32_t mti)
    cdef int _count(self, uint32_t mti, const uint8_t* response_code) noexcept
    cdef bint _fill(self, Request request, Message message, uint32_t mti) except -1
    cdef bint _fill_trace(
        self, Request request, Message message, uint32_t mti) noexcept
    cdef bint _fill_card(self, Request request, Message message) noexcept
    cdef bint _fill_original(self, Request request, Message message) noexcept
