# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: nonecheck=True, auto_pickle=False, autotestdict=False
"""Messages as views over their own bytes.

A `Message` is the encoded message and a table of where its fields begin. Reading a
field converts it when it is asked for; changing one makes new bytes. So the bytes
are a whole, valid message at every moment, and encoding one costs nothing.

Rule 1: offsets come from `Layout.walk` or from sizes computed here, never from a
        caller, so nothing here can read or write outside a frame.
Rule 2: no content of a field goes into an error.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_CheckExact
from cpython.long cimport PyLong_Check
from cpython.object cimport Py_EQ, Py_NE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cimport cython

from iso8583._encode cimport (
    check_code,
    code_bytes,
    defines,
    encode_field,
    encode_fields,
    encode_mti,
    encode_ordinary,
    encode_reply,
    frame_too_long,
)
from iso8583._inside cimport compile_insides
from iso8583._layout cimport (
    FAULT_BITMAP_HEX,
    FAULT_BITMAP_TRUNCATED,
    FAULT_FRAME_OVERLONG,
    FAULT_HEADER_LENGTH,
    FAULT_HEADER_TRUNCATED,
    FAULT_MTI_DIGITS,
    FAULT_MTI_TRUNCATED,
    FAULT_MTI_VERSION,
    FAULT_REJECT_BITMAP,
    HEADER,
    MTI_DIGITS,
    Fault,
    Layout,
    fault_texts,
    splice_table,
    write_head,
)
from iso8583._path cimport path_text
from iso8583._read_inside cimport (
    dict_of,
    has_at,
    part_of,
    read_at,
    text_at,
    validate_field,
)
from iso8583._wire cimport (
    ABSENT,
    BITMAPS_MAX,
    FIELD_NUMBER_MAX,
    FRAME_SIZE_MAX,
    UNREADABLE,
    FieldPlan,
    FieldTable,
    HeaderPlan,
    Span,
    field_bit,
    leading_zeros,
    read_content,
    read_number,
    read_text,
    table_has,
    table_rank,
    text_length,
    write_text,
)
from iso8583._write_inside cimport DELETED, changed, elements_of, with_elements

from collections.abc import Mapping

from iso8583.errors import DecodeError, EncodeError
from iso8583.mti import response_mti
from iso8583.spec import checked

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t length, Py_UCS4 character_max)
    uint8_t* PyUnicode_1BYTE_DATA(object text)

cdef enum:
    APPROVAL_CODE_FIELD = 38
    APPROVAL_CODE_LENGTH = 6
    RESPONSE_CODE_FIELD = 39
    RESPONSE_CODE_LENGTH = 2


cdef object MISSING = object()


@cython.final
cdef class Codec:
    """Reads and writes the messages of one spec."""

    def __cinit__(self, spec):
        self.spec = checked(spec)
        self.layout = Layout(self.spec)
        self.layout.insides = compile_insides(self.layout, self.spec)

    def __reduce__(self):
        return Codec, (self.spec,)

    def __repr__(self):
        return f"<Codec {self.spec.name}>"

    cpdef Message decode(self, data, bint partial=False):
        """The message in `data` (bytes-like). Raises DecodeError.

        With `partial`, a message of the fields before the fault, which is its `fault`;
        raises only when not even MTI and bitmap could be read.
        """
        if not partial:
            return self.decode_data(data)
        try:
            return self.decode_data(data)
        except DecodeError as error:
            if error.message is None:
                raise
            message = <Message> error.message
            # Not the error itself: the two would keep each other alive.
            message.fault = DecodeError(
                error.field, error.offset, error.expected, error.got
            )
        return message

    cdef Message decode_data(self, data):
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            # Immutable, so the message can share it.
            return self.decode_frame(<bytes> data)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.decode_buffer(<const uint8_t*> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef Message decode_buffer(self, const uint8_t* data, Py_ssize_t size):
        return self.decode_frame(PyBytes_FromStringAndSize(<const char*> data, size))

    cdef Message decode_frame(self, bytes frame):
        cdef Message message = Message.__new__(Message)
        cdef Fault fault
        message.codec = self
        message.frame = frame
        if self.layout.walk(
            <const uint8_t*> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame),
            &message.mti_number, &message.table, &fault,
        ) < 0:
            raise decode_error(self, message, &fault)
        return message

    def message(self, fields):
        """A message made from {"mti": "0100", 2: "...", ...}."""
        return self.decode_frame(self.encode(fields))

    cpdef bytes encode(self, message):
        """The bytes of a message, or of {"mti": "0100", 2: "...", ...}.

        Field numbers may also be strings, or paths. A value is the field's text (hex
        for a binary one), or the bytes of its data on the wire; of a group, a dict of
        its elements. "header" is the message header, whole or by names of its parts.
        """
        cdef bytes frame
        if PyDict_CheckExact(message):
            frame = encode_ordinary(self.layout, <dict> message)
            if frame is not None:
                return frame
        elif isinstance(message, Message):
            if (<Message> message).codec is self:
                return (<Message> message).encode()
            check_whole(<Message> message)
            return self.encode(self.fields_of(<Message> message))
        elif not isinstance(message, (dict, Mapping)):
            raise TypeError(
                f"expected a Message or a mapping, got {type(message).__name__}"
            )
        # A copy, so that no one else can change it under the borrowed values below.
        cdef dict fields = dict(message)
        cdef dict elements = elements_of(self.layout, fields)
        frame = encode_fields(
            self.layout, fields.pop("header", None), fields.pop("mti", None), fields
        )
        if not elements:
            return frame
        try:
            return with_elements(self.decode_frame(frame), elements).encode()
        except DecodeError as error:
            # The bytes that a field was given here have no elements.
            raise EncodeError(error.field, error.expected, error.got) from None

    def reply(self, Message request not None, *, mti=None, copy=(), set=None):
        """A message that answers `request`, which is of this codec.

        Fields of `copy` are the request's own bytes, where it has them; those of `set`
        take their place, and may be paths. Without an MTI, it is the response's to the
        request's. The header, if there is one, is the request's, turned round.
        """
        if request.codec is not self:
            raise ValueError("expected a request of the same codec")
        if request.is_rejected():
            raise ValueError("expected a request, got a rejected message")
        cdef dict fields = dict(set or {})
        cdef dict elements = elements_of(self.layout, fields)
        return with_elements(self.decode_frame(encode_reply(
            self.layout, request.frame, &request.table,
            response_mti(request.mti) if mti is None else mti, copy, fields,
        )), elements)

    # A header means something to its own scheme only.
    cdef dict fields_of(self, Message message):
        cdef dict fields = message.to_dict()
        if message.codec.layout.header_spec != self.layout.header_spec:
            fields.pop("header", None)
        return fields


@cython.final
@cython.freelist(64)
cdef class Message:
    """One message. Made by `Codec.decode` or `Codec.message`.

    `message[11]` is a field's text: digits for BCD, uppercase hex for binary.
    `message["55.9F26"]`, or `message[55, "9F26"]`, is an element inside of one.
    """

    __hash__ = None

    def __init__(self):
        raise TypeError("expected Codec.decode or Codec.message to make messages")

    def __reduce__(self):
        return _unpickle, (self.codec, self.frame, self.fault)

    @property
    def mti(self):
        cdef object text = PyUnicode_New(MTI_DIGITS, 127)
        cdef uint8_t* digits = PyUnicode_1BYTE_DATA(text)
        cdef int index
        for index in range(MTI_DIGITS):
            digits[index] = c'0' + (self.mti_number >> (12 - 4 * index) & 0x0F)
        return text

    @mti.setter
    def mti(self, str value not None):
        cdef bytes wire = encode_mti(self.codec.layout, value)
        cdef Py_ssize_t at = self.table.mti_at
        cdef Py_ssize_t size = PyBytes_GET_SIZE(wire)
        self.frame = self.frame[:at] + wire + self.frame[at + size:]
        self.mti_number = int(value, 16)

    @property
    def header(self):
        """The parts of the message header by name, in hex; None without one."""
        header = self.codec.layout.header_spec
        return None if header is None else header.split(self.frame[:self.table.mti_at])

    @property
    def rejected(self):
        """Whether this is a message that came back, behind the header of a reject."""
        return self.is_rejected()

    cdef bint is_rejected(self) noexcept:
        return self.table.mti_at > self.codec.layout.header.size

    cdef bint has(self, int field) noexcept:
        return table_has(&self.table, field)

    cdef Span span(self, int field) noexcept:
        cdef Span span
        cdef int rank
        span.data = NULL
        span.size = 0
        if table_has(&self.table, field):
            rank = table_rank(&self.table, field)
            span.data = (
                <const uint8_t*> PyBytes_AS_STRING(self.frame) + self.table.starts[rank]
            )
            span.size = self.table.starts[rank + 1] - self.table.starts[rank]
        return span

    # The field's data, and what its length prefix would say.
    cdef Py_ssize_t content(
        self, const FieldPlan* plan, int field, const uint8_t** data
    ) noexcept:
        cdef Span span = self.span(field)
        if span.data == NULL:
            return ABSENT
        return read_content(plan, span.data, data)

    cdef Py_ssize_t text(
        self, int field, uint8_t* out, Py_ssize_t capacity
    ) noexcept:
        cdef const uint8_t* data
        cdef const FieldPlan* plan
        cdef Py_ssize_t count, length
        if not table_has(&self.table, field):
            return ABSENT
        plan = &self.codec.layout.plans[field]
        count = self.content(plan, field, &data)
        length = text_length(plan, count)
        if length > capacity or read_text(plan, data, count, out) < 0:
            return UNREADABLE
        return length

    cdef int64_t number(self, int field) noexcept:
        cdef const uint8_t* data
        cdef const FieldPlan* plan
        cdef Py_ssize_t count
        if not table_has(&self.table, field):
            return ABSENT
        plan = &self.codec.layout.plans[field]
        count = self.content(plan, field, &data)
        return read_number(plan, data, count)

    def __getitem__(self, key):
        value = self.at(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    cdef object at(self, object key, object absent):
        cdef int field
        # Held, in case a codec's own code changes the message meanwhile.
        cdef bytes frame = self.frame
        if not PyLong_Check(key):
            text = path_text(key)
            return read_at(self.codec.layout, frame, &self.table, text, absent)
        field = key
        if not table_has(&self.table, field):
            return absent
        return text_at(
            self.codec.layout, frame,
            self.table.starts[table_rank(&self.table, field)], field,
        )

    def __setitem__(self, key, value):
        if PyLong_Check(key):
            self.splice(key, encode_field(self.codec.layout, key, value))
        else:
            self.change(path_text(key), value)

    def __delitem__(self, key):
        if not PyLong_Check(key):
            self.change(path_text(key), DELETED)
        elif table_has(&self.table, key):
            self.splice(key, b"")
        else:
            raise KeyError(key)

    # A mapping's own code may change the message meanwhile: its state is held.
    cdef int change(self, object path, object value) except -1:
        cdef bytes frame = self.frame
        cdef FieldTable table = self.table
        field, wire = changed(self.codec.layout, frame, &table, path, value)
        return self.splice(field, wire)

    # Puts these bytes, prefix included, in the field's place; none removes it.
    cdef int splice(self, int field, bytes wire) except -1:
        cdef Layout layout = self.codec.layout
        cdef FieldTable* old = &self.table
        cdef FieldTable new
        cdef Py_ssize_t wire_size = PyBytes_GET_SIZE(wire)
        cdef int rank = table_rank(old, field)
        cdef Py_ssize_t cut = old.starts[rank]
        cdef Py_ssize_t resume = old.starts[rank + table_has(old, field)]
        cdef Py_ssize_t end = old.starts[old.count]
        cdef Py_ssize_t size = splice_table(layout, old, &new, field, wire_size)
        if size > FRAME_SIZE_MAX:
            raise frame_too_long(size)
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, size)
        cdef uint8_t* out = <uint8_t*> PyBytes_AS_STRING(frame)
        cdef const char* source = PyBytes_AS_STRING(self.frame)
        write_head(layout, &new, self.frame, out, size)
        memcpy(out + new.starts[0], source + old.starts[0], cut - old.starts[0])
        memcpy(out + new.starts[rank], PyBytes_AS_STRING(wire), wire_size)
        memcpy(out + new.starts[rank] + wire_size, source + resume, end - resume)
        self.frame = frame
        self.table = new
        return 0

    def __contains__(self, key):
        if isinstance(key, (str, tuple)):
            key = path_text(key)
            return has_at(self.codec.layout, self.frame, &self.table, key)
        if not isinstance(key, int) or not 2 <= key <= FIELD_NUMBER_MAX:
            return False
        return table_has(&self.table, key)

    def __iter__(self):
        return iter(self.field_numbers())

    cdef list field_numbers(self):
        cdef list numbers = []
        cdef uint64_t remaining
        cdef int word, field
        for word in range(BITMAPS_MAX):
            remaining = self.table.bitmap[word]
            while remaining:
                field = word * 64 + leading_zeros(remaining) + 1
                numbers.append(field)
                remaining ^= field_bit(field)
        return numbers

    def get(self, key, default=None):
        return self.at(key, default)

    def to_dict(self, *, bint inside=False):
        """{"mti": "0100", 2: "...", ...}, which `Codec.encode` takes back.

        With the message header in hex as "header", if the spec has one. With `inside`,
        a field that the spec can look into is a dict of its elements.
        """
        # A copy, in case a codec's own code changes the message meanwhile.
        cdef FieldTable table = self.table
        return dict_of(self.codec.layout, self.frame, &table, self.mti, inside)

    def validate(self):
        """Reads everything, inside fields too. Raises the first DecodeError."""
        for field in self.field_numbers():
            validate_field(self.codec.layout, self.frame, &self.table, field)

    def parts(self):
        """Every field as an `iso8583.inside.Part`, in clear, and never an error."""
        fields = self.codec.spec.fields
        return [
            part_of(self.codec.layout, self.frame, &self.table, field, fields[field])
            for field in self.field_numbers()
        ]

    def encode(self):
        check_whole(self)
        return self.frame

    def __bytes__(self):
        return self.encode()

    def copy(self):
        cdef Message message = Message.__new__(Message)
        message.codec = self.codec
        message.frame = self.frame
        message.mti_number = self.mti_number
        message.table = self.table
        message.fault = self.fault
        return message

    __copy__ = copy

    # The same header, MTI and fields: how the bitmaps were written, and so the total
    # length, does not matter.
    def __richcmp__(self, other, int operation):
        cdef Message left, right
        if not isinstance(other, Message) or operation not in (Py_EQ, Py_NE):
            return NotImplemented
        left, right = self, other
        return left.equals(right) == (operation == Py_EQ)

    cdef bint equals(self, Message other):
        cdef const FieldTable* mine = &self.table
        cdef const FieldTable* theirs = &other.table
        if (
            self.mti_number != other.mti_number
            or mine.bitmap[0] != theirs.bitmap[0]
            or mine.bitmap[1] != theirs.bitmap[1]
            or mine.bitmap[2] != theirs.bitmap[2]
        ):
            return False
        cdef Py_ssize_t size = mine.starts[mine.count] - mine.starts[0]
        if theirs.starts[theirs.count] - theirs.starts[0] != size:
            return False
        if not self.same_header(other):
            return False
        if memcmp(
            PyBytes_AS_STRING(self.frame) + mine.starts[0],
            PyBytes_AS_STRING(other.frame) + theirs.starts[0],
            size,
        ):
            return False
        if (self.fault is None) != (other.fault is None):
            return False
        return self.codec is other.codec or self.codec.spec == other.codec.spec

    cdef bint same_header(self, Message other) noexcept:
        cdef Py_ssize_t size = self.table.mti_at
        if other.table.mti_at != size or size == 0:
            return other.table.mti_at == size
        cdef const HeaderPlan* plan = &self.codec.layout.header
        cdef const char* mine = PyBytes_AS_STRING(self.frame)
        cdef const char* theirs = PyBytes_AS_STRING(other.frame)
        cdef Py_ssize_t behind = plan.total_at + plan.total_size
        return (
            memcmp(mine, theirs, plan.total_at) == 0
            and memcmp(mine + behind, theirs + behind, size - behind) == 0
        )

    def __sizeof__(self):
        return object.__sizeof__(self) + self.frame.__sizeof__()

    def __repr__(self):
        numbers = ", ".join(map(str, self.field_numbers()))
        return f"<Message {self.mti} of {self.codec.spec.name}: fields {numbers}>"


def _unpickle(Codec codec not None, bytes frame not None, fault=None):
    cdef Message message = codec.decode_frame(frame)
    message.fault = fault
    return message


# What was read of a message is none that anybody sent.
cdef int check_whole(Message message) except -1:
    if message.fault is not None:
        raise EncodeError(None, "a whole message", "the part before a fault")
    return 0


@cython.final
cdef class ReplyTemplate:
    """The reply to one type of request: an MTI, and the fields it echoes.

    Field 39 is set, and field 38 too when the reply has an approval code of its own;
    else it is echoed like any other, if it is among the fields to copy.
    """

    def __cinit__(self, Codec codec not None, str mti not None, copy):
        cdef bytes wire = encode_mti(codec.layout, mti)
        self.codec = codec
        self.mti = mti
        memcpy(self.mti_bytes, PyBytes_AS_STRING(wire), PyBytes_GET_SIZE(wire))
        memset(self.copied, 0, sizeof(self.copied))
        for number in copy:
            if number == RESPONSE_CODE_FIELD:
                raise ValueError(f"expected fields to copy, got {number}: it is set")
            if not defines(codec.layout, number):
                raise ValueError(f"expected fields of the spec, got {number}")
            self.copied[(<int> number - 1) >> 6] |= field_bit(number)
        check_code(codec.layout, APPROVAL_CODE_FIELD, APPROVAL_CODE_LENGTH)
        check_code(codec.layout, RESPONSE_CODE_FIELD, RESPONSE_CODE_LENGTH)

    cdef Py_ssize_t write(
        self, Message request, uint8_t* out, Py_ssize_t capacity,
        const uint8_t* approval_code, const uint8_t* response_code
    ) except -1:
        cdef Layout layout = self.codec.layout
        cdef FieldTable reply
        cdef Py_ssize_t at
        if request.codec is not self.codec:
            raise ValueError("expected a request of the template's own codec")
        reply.bitmap[0] = request.table.bitmap[0] & self.copied[0]
        reply.bitmap[1] = request.table.bitmap[1] & self.copied[1]
        reply.bitmap[2] = request.table.bitmap[2] & self.copied[2]
        reply.bitmap[0] |= field_bit(RESPONSE_CODE_FIELD)
        if approval_code != NULL:
            reply.bitmap[0] |= field_bit(APPROVAL_CODE_FIELD)
        reply.mti_at = layout.header.size
        at = layout.fields_at(&reply)
        if at > capacity:
            raise reply_too_long(capacity)
        memcpy(out + reply.mti_at, self.mti_bytes, layout.mti_size)
        layout.write_bitmaps(&reply, out + reply.mti_at + layout.mti_size)
        at = self.write_fields(
            request, &reply, out, at, capacity, approval_code, response_code
        )
        if at > FRAME_SIZE_MAX:
            raise reply_too_long(FRAME_SIZE_MAX)
        if reply.mti_at:
            layout.write_reply_header(
                <const uint8_t*> PyBytes_AS_STRING(request.frame), out, at
            )
        return at

    cdef Py_ssize_t write_fields(
        self, Message request, const FieldTable* reply, uint8_t* out, Py_ssize_t at,
        Py_ssize_t capacity, const uint8_t* approval_code,
        const uint8_t* response_code
    ) except -1:
        cdef const FieldPlan* plans = self.codec.layout.plans
        cdef const uint16_t* starts = request.table.starts
        cdef const char* frame = PyBytes_AS_STRING(request.frame)
        # Copied fields that lie side by side in the request are copied at once:
        # those from `first` to `last` have their room, but are still to be written.
        cdef Py_ssize_t first = 0, last = 0, size
        cdef uint64_t remaining
        cdef int word, field, rank
        for word in range(BITMAPS_MAX):
            remaining = reply.bitmap[word]
            while remaining:
                field = word * 64 + leading_zeros(remaining) + 1
                remaining ^= field_bit(field)
                rank = -1
                if field == APPROVAL_CODE_FIELD and approval_code != NULL:
                    size = APPROVAL_CODE_LENGTH
                elif field == RESPONSE_CODE_FIELD:
                    size = RESPONSE_CODE_LENGTH
                else:
                    rank = table_rank(&request.table, field)
                    size = starts[rank + 1] - starts[rank]
                if size > capacity - at:
                    raise reply_too_long(capacity)
                if rank < 0 or starts[rank] != last:
                    memcpy(out + at - (last - first), frame + first, last - first)
                    first = last = 0 if rank < 0 else starts[rank]
                if rank >= 0:
                    last += size
                elif field == APPROVAL_CODE_FIELD:
                    write_text(&plans[field], approval_code, size, out + at)
                else:
                    write_text(&plans[field], response_code, size, out + at)
                at += size
        memcpy(out + at - (last - first), frame + first, last - first)
        return at

    cpdef bytes build(
        self, Message request, str response_code, str approval_code=None
    ):
        """The reply's bytes."""
        if request is None:
            raise TypeError("expected a Message, got None")
        cdef bytes response = code_bytes(
            RESPONSE_CODE_FIELD, response_code, RESPONSE_CODE_LENGTH
        )
        cdef bytes approval = b""
        cdef const uint8_t* approval_data = NULL
        if approval_code is not None:
            approval = code_bytes(
                APPROVAL_CODE_FIELD, approval_code, APPROVAL_CODE_LENGTH
            )
            approval_data = <const uint8_t*> PyBytes_AS_STRING(approval)
        # The request's own bytes, an MTI, bitmaps as hex, two codes.
        cdef Py_ssize_t capacity = (
            PyBytes_GET_SIZE(request.frame) + MTI_DIGITS + BITMAPS_MAX * 16
            + APPROVAL_CODE_LENGTH + RESPONSE_CODE_LENGTH
        )
        cdef bytes reply = PyBytes_FromStringAndSize(NULL, capacity)
        cdef Py_ssize_t size = self.write(
            request, <uint8_t*> PyBytes_AS_STRING(reply), capacity,
            approval_data, <const uint8_t*> PyBytes_AS_STRING(response),
        )
        return reply[:size]


cdef object reply_too_long(Py_ssize_t capacity):
    return EncodeError(None, f"a reply of at most {capacity} bytes", "more")


# ---- faults

cdef object decode_error(Codec codec, Message message, const Fault* fault):
    cdef str expected, got
    expected, got = fault_texts(codec.layout, message.frame, fault)
    partial = None
    if fault.kind not in (
        FAULT_FRAME_OVERLONG, FAULT_HEADER_TRUNCATED, FAULT_HEADER_LENGTH,
        FAULT_REJECT_BITMAP, FAULT_MTI_TRUNCATED, FAULT_MTI_DIGITS,
        FAULT_MTI_VERSION, FAULT_BITMAP_TRUNCATED, FAULT_BITMAP_HEX,
    ):
        partial = walked_part(message)
    field = None if fault.field < 0 else fault.field
    if fault.field == HEADER:
        name, offset, _ = codec.layout.header_spec.part_at(fault.offset)
        return DecodeError(f"header {name}", offset, expected, got, partial)
    return DecodeError(field, fault.offset, expected, got, partial)


# The fields walked before the fault, as a message of their own.
cdef Message walked_part(Message message):
    cdef Layout layout = message.codec.layout
    cdef FieldTable* table = &message.table
    cdef Py_ssize_t at = layout.fields_at(table)
    cdef Py_ssize_t first = table.starts[0]
    cdef Py_ssize_t size = table.starts[table.count] - first
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, at + size)
    cdef uint8_t* out = <uint8_t*> PyBytes_AS_STRING(frame)
    cdef const char* source = PyBytes_AS_STRING(message.frame)
    cdef uint32_t index
    write_head(layout, table, message.frame, out, at + size)
    memcpy(out + at, source + first, size)
    for index in range(table.count + 1):
        table.starts[index] = <uint16_t> (table.starts[index] - first + at)
    message.frame = frame
    return message
