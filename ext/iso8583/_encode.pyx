# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: nonecheck=True, auto_pickle=False, autotestdict=False
"""Values to the bytes of a field, and of a whole message.

Of a dict in which nothing is out of the ordinary, each value is checked and written as
it comes, into a draft; the frame is made of that. Of anything else, and to say what is
wrong, there are two passes: the first checks every length and so knows the exact size,
the second writes. Nothing is grown, or written without room for it.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_Next
from cpython.long cimport PyLong_AsLong, PyLong_Check, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.unicode cimport (
    PyUnicode_Check,
    PyUnicode_CheckExact,
    PyUnicode_GET_LENGTH,
)
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcmp, memcpy

from iso8583._layout cimport (
    MTI_DIGITS,
    Layout,
    expected_length,
    expected_version,
)
from iso8583._wire cimport (
    BITMAPS_MAX,
    DATA_SIGNED,
    DATA_TEXT,
    DATA_UNDEFINED,
    FIELD_NUMBER_MAX,
    FRAME_SIZE_MAX,
    FieldPlan,
    FieldTable,
    copy_bytes,
    data_size,
    field_bit,
    leading_zeros,
    prefix_size,
    table_has,
    table_rank,
    text_count,
    write_prefix,
    write_text,
)

from collections.abc import Mapping

from iso8583.errors import EncodeError

cdef extern from "Python.h":
    uint8_t* PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef extern from *:
    # Of an int that has one digit of Python's, as every field's number has.
    bint __Pyx_PyLong_IsCompact(object number)
    Py_ssize_t __Pyx_PyLong_CompactValue(object number)

cdef enum:
    # Of all fields of a message that is written in one pass: it is on the stack.
    DRAFT_SIZE_MAX = 8192

cdef str MTI = "mti"

# The fields of a message behind one another as they came, and where each is.
cdef struct Draft:
    FieldTable table
    Py_ssize_t size
    # They came in the order in which they are in the frame.
    bint is_ordered
    uint16_t starts[FIELD_NUMBER_MAX + 1]
    uint16_t sizes[FIELD_NUMBER_MAX + 1]
    uint8_t mti[MTI_DIGITS]
    uint8_t data[DRAFT_SIZE_MAX]


cdef object frame_too_long(Py_ssize_t size):
    return EncodeError(None, f"at most {FRAME_SIZE_MAX} bytes", f"{size}")


cdef bytes encode_mti(Layout layout, object mti):
    cdef str text = ""
    cdef const uint8_t* digits
    cdef uint8_t wire[MTI_DIGITS]
    if is_ascii_text(mti):
        text = mti
    elif PyUnicode_Check(mti):
        # Not mti.encode: a subclass of str could give anything.
        text = str.encode(mti, "ascii", "replace").decode("ascii")
    if not has_mti_digits(text):
        raise EncodeError(0, "a str of 4 digits", type(mti).__name__)
    digits = PyUnicode_1BYTE_DATA(text)
    if not layout.versions >> (digits[0] - c'0') & 1:
        raise EncodeError(0, expected_version(layout), f"{mti[0]}")
    write_text(&layout.plans[0], digits, MTI_DIGITS, wire)
    return PyBytes_FromStringAndSize(<const char*> wire, layout.mti_size)


cdef bint has_mti_digits(str text) noexcept:
    cdef const uint8_t* digits = PyUnicode_1BYTE_DATA(text)
    cdef int index, count = 0
    if PyUnicode_GET_LENGTH(text) == MTI_DIGITS:
        for index in range(MTI_DIGITS):
            count += c'0' <= digits[index] <= c'9'
    return count == MTI_DIGITS


cdef bytes encode_header(Layout layout, object header):
    if header is None:
        return layout.header_default
    if layout.header_spec is None:
        raise EncodeError("header", "none in this spec", "one")
    return layout.header_spec.join(header)


cdef bytes encode_field(Layout layout, int field, object value):
    cdef const FieldPlan* plan = find_plan(layout, field)
    value = plain_value(layout, field, value)
    cdef Py_ssize_t size = wire_size(plan, field, value)
    cdef bytes wire = PyBytes_FromStringAndSize(NULL, size)
    write_field(plan, field, value, <uint8_t*> PyBytes_AS_STRING(wire))
    return wire


cdef bytes encode_fields(Layout layout, object header, object mti, dict fields):
    cdef PyObject* values[FIELD_NUMBER_MAX + 1]
    cdef FieldTable table
    cdef bytes header_wire = encode_header(layout, header)
    cdef bytes mti_wire = encode_mti(layout, mti)
    cdef Py_ssize_t size = collect(layout, fields, values, &table)
    return assemble(layout, header_wire, mti_wire, values, &table, size)


cdef bytes encode_ordinary(Layout layout, dict message):
    cdef Draft draft
    cdef uint8_t* out
    cdef uint64_t remaining
    cdef int word, field
    if not write_draft(layout, message, &draft):
        return None
    cdef bytes frame = begin_frame(
        layout, layout.header_default, draft.mti, &draft.table, draft.size, &out
    )
    if draft.is_ordered:
        memcpy(out, draft.data, draft.size)
        return frame
    for word in range(BITMAPS_MAX):
        remaining = draft.table.bitmap[word]
        while remaining:
            field = word * 64 + leading_zeros(remaining) + 1
            remaining ^= field_bit(field)
            memcpy(out, draft.data + draft.starts[field], draft.sizes[field])
            out += draft.sizes[field]
    return frame


# A frame for fields of this size together, all written but them: `body` is their place.
cdef bytes begin_frame(
    Layout layout, bytes header, const uint8_t* mti, FieldTable* table, Py_ssize_t size,
    uint8_t** body
):
    table.mti_at = <uint16_t> PyBytes_GET_SIZE(header)
    size += layout.fields_at(table)
    if size > FRAME_SIZE_MAX:
        raise frame_too_long(size)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* out = <uint8_t*> PyBytes_AS_STRING(frame)
    if table.mti_at:
        memcpy(out, PyBytes_AS_STRING(header), table.mti_at)
        layout.write_lengths(out, table.mti_at, size)
        out += table.mti_at
    copy_bytes(out, mti, layout.mti_size)
    out += layout.mti_size
    body[0] = out + layout.write_bitmaps(table, out)
    return frame


# The fields are of this size together, and their values are held, or nothing runs that
# could let go of them.
cdef bytes assemble(
    Layout layout, bytes header, bytes mti, PyObject** values, FieldTable* table,
    Py_ssize_t size
):
    cdef uint8_t* out
    cdef bytes frame = begin_frame(
        layout, header, <const uint8_t*> PyBytes_AS_STRING(mti), table, size, &out
    )
    cdef uint64_t remaining
    cdef int word, field
    for word in range(BITMAPS_MAX):
        remaining = table.bitmap[word]
        while remaining:
            field = word * 64 + leading_zeros(remaining) + 1
            remaining ^= field_bit(field)
            out += write_field(
                &layout.plans[field], field, <object> values[field], out
            )
    return frame


cdef bytes encode_reply(
    Layout layout, bytes request, const FieldTable* table, object mti, object copy,
    dict fields
):
    cdef PyObject* values[FIELD_NUMBER_MAX + 1]
    cdef FieldTable given, reply
    cdef bytes mti_wire = encode_mti(layout, mti)
    cdef Py_ssize_t body = collect(layout, fields, values, &given)
    cdef const char* source = PyBytes_AS_STRING(request)
    cdef int word, field, rank
    cdef uint64_t remaining
    reply = given
    reply.mti_at = layout.header.size
    for number in copy:
        field = field_number(number)
        find_plan(layout, field)
        if table_has(table, field) and not table_has(&reply, field):
            reply.bitmap[(field - 1) >> 6] |= field_bit(field)
            rank = table_rank(table, field)
            body += table.starts[rank + 1] - table.starts[rank]
    cdef Py_ssize_t size = layout.fields_at(&reply) + body
    if size > FRAME_SIZE_MAX:
        raise frame_too_long(size)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* out = <uint8_t*> PyBytes_AS_STRING(frame)
    if reply.mti_at:
        layout.write_reply_header(<const uint8_t*> source, out, size)
    memcpy(out + reply.mti_at, PyBytes_AS_STRING(mti_wire), layout.mti_size)
    out += reply.mti_at + layout.mti_size
    out += layout.write_bitmaps(&reply, out)
    for word in range(BITMAPS_MAX):
        remaining = reply.bitmap[word]
        while remaining:
            field = word * 64 + leading_zeros(remaining) + 1
            remaining ^= field_bit(field)
            if table_has(&given, field):
                out += write_field(
                    &layout.plans[field], field, <object> values[field], out
                )
            else:
                rank = table_rank(table, field)
                body = table.starts[rank + 1] - table.starts[rank]
                memcpy(out, source + table.starts[rank], body)
                out += body
    return frame


# Fills values (borrowed from the dict, which must not change) and the bitmaps.
# Returns the size of all fields together.
cdef Py_ssize_t collect(
    Layout layout, dict fields, PyObject** values, FieldTable* table
) except -1:
    cdef PyObject* key
    cdef PyObject* value
    cdef const FieldPlan* plan
    cdef Py_ssize_t position = 0, size = 0
    cdef int field
    table.bitmap[0] = table.bitmap[1] = table.bitmap[2] = 0
    while PyDict_Next(fields, &position, &key, &value):
        field = field_number(<object> key)
        plan = find_plan(layout, field)
        if table_has(table, field):
            raise EncodeError(field, "one value", "two")
        plain = plain_value(layout, field, <object> value)
        if <PyObject*> plain != value:
            # The key is there already: this changes neither size nor order.
            fields[<object> key] = plain
            value = <PyObject*> plain
        table.bitmap[(field - 1) >> 6] |= field_bit(field)
        values[field] = value
        size += wire_size(plan, field, <object> value)
    return size


# A dict in which nothing is out of the ordinary; False for any other. Makes no object
# and runs nobody else's code.
cdef bint write_draft(Layout layout, dict message, Draft* draft) noexcept:
    cdef PyObject* key
    cdef PyObject* value
    cdef const FieldPlan* plans = layout.plans
    cdef FieldTable* table = &draft.table
    cdef Py_ssize_t position = 0, at = 0, size
    cdef uint64_t bit
    cdef int field, word, last = 1
    cdef bint has_mti = False
    table.bitmap[0] = table.bitmap[1] = table.bitmap[2] = 0
    draft.is_ordered = True
    while PyDict_Next(message, &position, &key, &value):
        field = ordinary_number(<object> key)
        if field == 0:
            has_mti = write_ordinary_mti(layout, <object> value, draft.mti)
            if not has_mti:
                return False
            continue
        if field < 2:
            return False
        word = (field - 1) >> 6
        bit = field_bit(field)
        if table.bitmap[word] & bit:
            return False
        size = write_ordinary(
            &plans[field], <object> value, draft.data + at, DRAFT_SIZE_MAX - at
        )
        if size < 0:
            return False
        table.bitmap[word] |= bit
        if field < last:
            draft.is_ordered = False
        last = field
        draft.starts[field] = <uint16_t> at
        draft.sizes[field] = <uint16_t> size
        at += size
    draft.size = at
    return has_mti


cdef bint write_ordinary_mti(Layout layout, object mti, uint8_t* out) noexcept:
    if not is_ascii_text(mti) or not has_mti_digits(<str> mti):
        return False
    cdef const uint8_t* digits = PyUnicode_1BYTE_DATA(mti)
    if not layout.versions >> (digits[0] - c'0') & 1:
        return False
    write_text(&layout.plans[0], digits, MTI_DIGITS, out)
    return True


# Returns the size of the field, prefix included; -1 for what is out of the ordinary,
# wrong, or has no room.
cdef inline Py_ssize_t write_ordinary(
    const FieldPlan* plan, object value, uint8_t* out, Py_ssize_t room
) noexcept:
    cdef Py_ssize_t count, size
    if plan.is_ascii and is_ascii_text(value):
        count = PyUnicode_GET_LENGTH(value)
        size = size_for(plan, count)
        if not 0 <= size <= room:
            return -1
        write_prefix(plan, count, out)
        copy_bytes(out + size - count, PyUnicode_1BYTE_DATA(value), count)
        return size
    if plan.data_form == DATA_UNDEFINED or not is_plain(plan, value):
        return -1
    size = size_of(plan, value)
    if size > room or size < 0 or put_value(plan, value, out) < 0:
        return -1
    return size


# A field's number, as an int or in digits; 0 for the MTI; -1 for any other key.
cdef inline int ordinary_number(object key) noexcept:
    cdef const uint8_t* text
    cdef Py_ssize_t length, index, given
    cdef int number = 0
    if PyLong_CheckExact(key) and __Pyx_PyLong_IsCompact(key):
        given = __Pyx_PyLong_CompactValue(key)
        return <int> given if 0 < given <= FIELD_NUMBER_MAX else -1
    if key is MTI:
        return 0
    if not is_ascii_text(key):
        return -1
    text = PyUnicode_1BYTE_DATA(key)
    length = PyUnicode_GET_LENGTH(key)
    if length == 3 and memcmp(text, b"mti", 3) == 0:
        return 0
    if not 1 <= length <= 3:
        return -1
    for index in range(length):
        if not c'0' <= text[index] <= c'9':
            return -1
        number = number * 10 + (text[index] - c'0')
    return number if 0 < number <= FIELD_NUMBER_MAX else -1


cdef int field_number(object key) except -1:
    cdef long number = -1
    if PyLong_Check(key):
        try:
            number = PyLong_AsLong(key)
        except OverflowError:
            pass
    elif PyUnicode_Check(key) and key.isascii() and key.isdigit() and len(key) <= 3:
        number = int(key)
    if not 0 <= number <= FIELD_NUMBER_MAX:
        raise EncodeError(
            None, f"field numbers up to {FIELD_NUMBER_MAX}", "another key"
        )
    return <int> number


cdef bint defines(Layout layout, int field) noexcept:
    if field < 2 or field > FIELD_NUMBER_MAX:
        return False
    return layout.plans[field].data_form != DATA_UNDEFINED


cdef const FieldPlan* find_plan(Layout layout, int field) except NULL:
    if not defines(layout, field):
        raise EncodeError(field, "a field of the spec", "an undefined one")
    return &layout.plans[field]


# One value, prefix included, by a plan that is no field's; errors are of no field.
cdef bytes encode_value(const FieldPlan* plan, object encoding, object value):
    value = as_plain(plan, encoding, 0, value)
    cdef Py_ssize_t size = wire_size(plan, 0, value)
    cdef bytes wire = PyBytes_FromStringAndSize(NULL, size)
    write_field(plan, 0, value, <uint8_t*> PyBytes_AS_STRING(wire))
    return wire


# The value as compact ASCII text that has a table, or as the bytes of its data on the
# wire.
cdef object plain_value(Layout layout, int field, object value):
    inside = layout.insides[field]
    if inside is not None and not PyUnicode_Check(value) and isinstance(value, Mapping):
        value = inside.encode(value, str(field))
    return as_plain(&layout.plans[field], layout.encodings[field], field, value)


# Nothing derived from str, which need not be laid out as str is.
cdef inline bint is_ascii_text(object value) noexcept:
    return PyUnicode_CheckExact(value) and PyUnicode_IS_COMPACT_ASCII(value)


cdef inline bint is_plain(const FieldPlan* plan, object value) noexcept:
    if is_ascii_text(value):
        return plan.data_form != DATA_TEXT or plan.from_ascii != NULL
    return PyBytes_CheckExact(value) and plan.counts_per_byte == 1


cdef object as_plain(
    const FieldPlan* plan, object encoding, int field, object value
):
    if is_plain(plan, value):
        return value
    if PyUnicode_Check(value):
        encoding = encoding or "ascii"
        try:
            # Not value.encode: a subclass of str could give anything.
            data = str.encode(value, encoding)
        except UnicodeError as error:
            raise EncodeError(
                field, f"text in {encoding}", "another character",
                getattr(error, "start", None),
            ) from None
        # A subclass of str, which need not be laid out as str is.
        return data if plan.data_form == DATA_TEXT else data.decode("ascii")
    raise EncodeError(
        field, "str" if plan.counts_per_byte == 2 else "str or bytes",
        type(value).__name__,
    )


# What the prefix of a plain value counts; -1 when half a byte would be left over.
cdef inline Py_ssize_t count_of(const FieldPlan* plan, object value) noexcept:
    if PyUnicode_Check(value):
        return text_count(plan, PyUnicode_GET_LENGTH(value))
    return PyBytes_GET_SIZE(value)


# The field's size on the wire, prefix included; -1 when its length is none for it.
cdef inline Py_ssize_t size_of(const FieldPlan* plan, object value) noexcept:
    return size_for(plan, count_of(plan, value))


cdef inline Py_ssize_t size_for(const FieldPlan* plan, Py_ssize_t count) noexcept:
    if count < 0 or count > plan.length:
        return -1
    if plan.prefix_size == 0 and count != plan.length:
        return -1
    return prefix_size(plan, count) + data_size(plan, count)


cdef Py_ssize_t wire_size(
    const FieldPlan* plan, int field, object value
) except -1:
    cdef Py_ssize_t size = size_of(plan, value)
    if size < 0:
        count = count_of(plan, value)
        if count < 0:
            raise EncodeError(
                field, "an even number of digits", f"{PyUnicode_GET_LENGTH(value)}"
            )
        raise EncodeError(field, expected_length(plan), f"{count}")
    return size


# Returns the size written: wire_size has said that there is room.
cdef Py_ssize_t write_field(
    const FieldPlan* plan, int field, object value, uint8_t* out
) except -1:
    cdef int wrong = put_value(plan, value, out)
    if wrong < 0:
        raise EncodeError(
            field, expected_text(plan), "another character", -1 - wrong
        )
    return size_of(plan, value)


# Prefix and data of a plain value; when a character has no place, -1 less its index.
cdef int put_value(const FieldPlan* plan, object value, uint8_t* out) noexcept:
    cdef Py_ssize_t count = count_of(plan, value)
    cdef uint8_t* data = out + prefix_size(plan, count)
    write_prefix(plan, count, out)
    if PyUnicode_Check(value):
        return write_text(
            plan, PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value), data
        )
    memcpy(data, PyBytes_AS_STRING(value), count)
    return 0


cdef str expected_text(const FieldPlan* plan):
    return "C or D and digits" if plan.data_form == DATA_SIGNED else "hex digits"


# ---- codes of a reply

cdef int check_code(Layout layout, int field, int length) except -1:
    cdef const FieldPlan* plan = &layout.plans[field]
    if (
        plan.data_form != DATA_TEXT
        or plan.from_ascii == NULL
        or plan.prefix_size != 0
        or plan.length != length
    ):
        raise ValueError(
            f"expected field {field} to be {length} characters of text in the spec"
        )
    return 0


cdef bytes code_bytes(int field, str code, Py_ssize_t length):
    if code is None or not code.isascii() or len(code) != length:
        raise EncodeError(field, f"{length} ASCII characters", "another value")
    return code.encode("ascii")
