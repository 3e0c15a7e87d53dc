# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
"""Messages to and from the documents of pyiso8583's interface.

    [h] | t | p | [1 | [1 continued]] | fields in order of number

A document has an entry a part, by these keys: its text, or its bytes as
{"len": prefix, "data": data}.

Rule 1: only what is wholly in order is read or written here. Anything else the plain
        code (iso8583/documents.py) does from the start. So every error comes from
        there, and nothing is changed here before success.
Rule 2: Python code of others may run whenever an object is made (the garbage collector
        calls finalisers). What is needed after that is copied or held before it.
"""

from cpython.bytearray cimport PyByteArray_CheckExact, PyByteArray_FromStringAndSize
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_CheckExact, PyDict_New, PyDict_Next, PyDict_SetItem
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_GET_LENGTH
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from iso8583._hex cimport write_hex
from iso8583._specdict cimport (
    DOCUMENT_FIELD_MAX,
    HEADER,
    KEY_COUNT,
    PREFIX_MAX,
    PRIMARY,
    SECONDARY,
    TYPE,
    FieldEntry,
    SpecPlans,
    entry_of,
    plans_of,
)
from iso8583._wire cimport (
    DATA_BCD,
    DATA_BINARY,
    FieldPlan,
    bits_set,
    data_size,
    field_bit,
    hex_value,
    leading_zeros,
    read_prefix,
    read_text,
    text_count,
    text_length,
    write_prefix,
    write_text,
)

from iso8583.documents import decode_plainly, encode_plainly

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t length, Py_UCS4 character_max)
    uint8_t* PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef extern from *:
    # Room for this many from the start, where Python can.
    dict __Pyx_PyDict_NewPresized(Py_ssize_t count)

cdef enum:
    BITMAP_WORDS = 3
    BITMAP_SIZE = 8
    BITMAP_DIGITS = 16
    # Two digits a byte of the longest field that there is a plan for.
    TEXT_MAX = 2 * 0xFFFF
    # A message that is put together without asking for memory.
    SMALL_SIZE = 4096

cdef tuple KEYS = ("p", *map(str, range(1, DOCUMENT_FIELD_MAX + 1)), "h", "t")
cdef str LEN = "len"
cdef str DATA = "data"
cdef bytes NOTHING = b""


# ---- reading

# The message, and how far it has been read.
cdef struct Reader:
    const uint8_t* data
    Py_ssize_t size
    Py_ssize_t at

# One part of it, found but not yet read.
cdef struct Part:
    FieldPlan plan
    const uint8_t* prefix
    Py_ssize_t count


def decode(s, spec):
    """The message in `s`, by a dictionary `spec`, as pyiso8583 decodes it.

    Returns its text by field, and its bytes as {"len": ..., "data": ...} by field.
    Raises DecodeError.
    """
    cdef tuple documents = None
    if PyDict_CheckExact(spec):
        if PyBytes_CheckExact(s):
            documents = read(<bytes> s, <dict> spec)
        elif PyByteArray_CheckExact(s):
            # A copy, which nobody changes meanwhile.
            documents = read(bytes(s), <dict> spec)
    return decode_plainly(s, spec) if documents is None else documents


# None when the message is not wholly in order.
cdef tuple read(bytes frame, dict spec):
    cdef SpecPlans plans = plans_of(spec)
    cdef uint64_t bitmap[BITMAP_WORDS]
    cdef const FieldEntry* entry
    cdef Part header, kind, part
    cdef Part bitmaps[BITMAP_WORDS]
    cdef Reader reader
    cdef int words, word, number
    cdef bint has_header
    reader.data = <const uint8_t*> PyBytes_AS_STRING(frame)
    reader.size = PyBytes_GET_SIZE(frame)
    reader.at = 0
    entry = entry_of(plans, spec, HEADER)
    if entry == NULL:
        return None
    has_header = not entry.is_absent
    if has_header and not find_part(entry, &reader, &header):
        return None
    entry = entry_of(plans, spec, TYPE)
    if entry == NULL or not find_part(entry, &reader, &kind):
        return None
    words = find_bitmaps(plans, spec, &reader, bitmaps, bitmap)
    if words == 0:
        return None
    cdef Py_ssize_t count = has_header + 2 + bits_set(bitmap[0])
    if words > 1:
        count += bits_set(bitmap[1]) + bits_set(bitmap[2])
    cdef dict decoded = __Pyx_PyDict_NewPresized(count)
    cdef dict encoded = __Pyx_PyDict_NewPresized(count)
    if has_header and not read_part(&header, HEADER, decoded, encoded):
        return None
    if not read_part(&kind, TYPE, decoded, encoded):
        return None
    if not read_part(&bitmaps[0], PRIMARY, decoded, encoded):
        return None
    if words > 1 and not read_part(&bitmaps[1], SECONDARY, decoded, encoded):
        return None
    if words > 2 and not read_tertiary(&bitmaps[2], decoded, encoded):
        return None
    # The bits that say that there is another bitmap are no fields.
    bitmap[0] &= ~field_bit(1)
    bitmap[1] &= ~field_bit(1)
    for word in range(words):
        while bitmap[word]:
            number = word * 64 + leading_zeros(bitmap[word]) + 1
            bitmap[word] ^= field_bit(number)
            entry = entry_of(plans, spec, number)
            if entry == NULL or not find_part(entry, &reader, &part):
                return None
            if not read_part(&part, number, decoded, encoded):
                return None
    if reader.at != reader.size:
        return None
    return decoded, encoded


# False when the part is not there in full, or longer than it may be.
cdef inline bint find_part(
    const FieldEntry* entry, Reader* reader, Part* part
) noexcept:
    cdef Py_ssize_t size
    part.plan = entry.plan
    part.prefix = reader.data + reader.at
    part.count = part.plan.length
    if part.plan.prefix_size:
        if reader.size - reader.at < part.plan.prefix_size:
            return False
        part.count = read_prefix(&part.plan, part.prefix)
        if part.count < 0 or part.count > part.plan.length:
            return False
    size = part.plan.prefix_size + data_size(&part.plan, part.count)
    if reader.size - reader.at < size:
        return False
    reader.at += size
    return True


# How many bitmaps there are; 0 when one cannot be read.
cdef int find_bitmaps(
    SpecPlans plans, dict spec, Reader* reader, Part* parts, uint64_t* bitmap
) except -1:
    cdef const FieldEntry* entry = entry_of(plans, spec, PRIMARY)
    bitmap[1] = bitmap[2] = 0
    if entry == NULL or not find_bitmap(entry, reader, parts, bitmap):
        return 0
    if not bitmap[0] & field_bit(1):
        return 1
    entry = entry_of(plans, spec, SECONDARY)
    if entry == NULL or not find_bitmap(entry, reader, parts + 1, bitmap + 1):
        return 0
    if not bitmap[1] & field_bit(1):
        return 2
    return 3 if find_bitmap(entry, reader, parts + 2, bitmap + 2) else 0


cdef bint find_bitmap(
    const FieldEntry* entry, Reader* reader, Part* part, uint64_t* word
) noexcept:
    cdef const uint8_t* data
    cdef uint8_t digit
    cdef int index
    if not find_part(entry, reader, part):
        return False
    data = part.prefix
    word[0] = 0
    if part.plan.data_form == DATA_BINARY:
        for index in range(BITMAP_SIZE):
            word[0] = word[0] << 8 | data[index]
        return True
    for index in range(BITMAP_DIGITS):
        digit = hex_value(part.plan.to_ascii[data[index]])
        if digit > 15:
            return False
        word[0] = word[0] << 4 | digit
    return True


# Puts the part into both documents; False when its data is not in its encoding.
cdef inline bint read_part(
    const Part* part, int number, dict decoded, dict encoded
) except -1:
    cdef const FieldPlan* plan = &part.plan
    cdef Py_ssize_t size = data_size(plan, part.count)
    cdef const uint8_t* data = part.prefix + plan.prefix_size
    cdef object text = PyUnicode_New(text_length(plan, part.count), 127)
    if read_text(plan, data, part.count, PyUnicode_1BYTE_DATA(text)) < 0:
        return False
    cdef dict entry = PyDict_New()
    if plan.prefix_size:
        PyDict_SetItem(
            entry, LEN,
            PyBytes_FromStringAndSize(<const char*> part.prefix, plan.prefix_size),
        )
    else:
        PyDict_SetItem(entry, LEN, NOTHING)
    PyDict_SetItem(
        entry, DATA, PyBytes_FromStringAndSize(<const char*> data, size)
    )
    key = <object> (<PyObject*> KEYS[number])
    PyDict_SetItem(decoded, key, text)
    PyDict_SetItem(encoded, key, entry)
    return True


# It continues the secondary one, under the same key.
cdef bint read_tertiary(const Part* part, dict decoded, dict encoded) except -1:
    cdef dict more_decoded = {}, more_encoded = {}
    if not read_part(part, SECONDARY, more_decoded, more_encoded):
        return False
    decoded["1"] += more_decoded["1"]
    encoded["1"]["data"] += more_encoded["1"]["data"]
    return True


# ---- writing

# What is to be written, by number: `given` says of which fields there is a value.
cdef struct Writer:
    uint64_t given[BITMAP_WORDS]
    uint64_t bitmap[BITMAP_WORDS]
    bint has_header
    bint has_type
    # Held.
    PyObject* values[KEY_COUNT]
    # Of the document as it came, to be made anew.
    bint has_secondary
    bint has_extended
    # More than the message can have, and where it is written to.
    Py_ssize_t size_max
    uint8_t* message
    uint8_t* out


def encode(doc_dec, spec):
    """The message of a document, by a dictionary `spec`, as pyiso8583 encodes it.

    Returns a bytearray, and its bytes as {"len": ..., "data": ...} by field. The
    bitmaps in the document are made right. Raises EncodeError.
    """
    cdef Writer writer
    cdef uint8_t small[SMALL_SIZE]
    cdef tuple result = None
    if PyDict_CheckExact(spec) and PyDict_CheckExact(doc_dec):
        if collect(<dict> doc_dec, &writer):
            hold(&writer, True)
            writer.message = small
            try:
                if writer.size_max > SMALL_SIZE:
                    writer.message = <uint8_t*> PyMem_Malloc(writer.size_max)
                    if writer.message == NULL:
                        raise MemoryError
                result = write(<dict> doc_dec, <dict> spec, &writer)
            finally:
                if writer.message != small:
                    PyMem_Free(writer.message)
                hold(&writer, False)
    return encode_plainly(doc_dec, spec) if result is None else result


# Finds each value; False when a key or a value is none that is written here. Makes no
# object, so that nothing can change the document meanwhile.
cdef bint collect(dict document, Writer* writer) noexcept:
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t position = 0, length
    cdef int number
    writer.given[0] = writer.given[1] = writer.given[2] = 0
    writer.has_header = writer.has_type = False
    writer.has_secondary = writer.has_extended = False
    writer.size_max = BITMAP_WORDS * BITMAP_DIGITS
    while PyDict_Next(document, &position, &key, &value):
        number = number_of(key)
        if number < 0:
            return False
        if number == KEY_COUNT or number == PRIMARY:
            continue
        if number == SECONDARY:
            writer.has_secondary = True
            continue
        if number == 65:
            writer.has_extended = True
            continue
        if not (
            PyUnicode_CheckExact(<object> value)
            and PyUnicode_IS_COMPACT_ASCII(<object> value)
        ):
            return False
        length = PyUnicode_GET_LENGTH(<object> value)
        if length > TEXT_MAX:
            return False
        writer.values[number] = value
        # No text is longer on the wire, but for half a byte of padding.
        writer.size_max += length + PREFIX_MAX + 1
        if number == HEADER:
            writer.has_header = True
        elif number == TYPE:
            writer.has_type = True
        else:
            writer.given[(number - 1) >> 6] |= field_bit(number)
    return writer.has_type


# KEY_COUNT for a key that is no part of a message; -1 for one to be looked at closely.
cdef inline int number_of(PyObject* key) noexcept:
    cdef const uint8_t* text
    cdef Py_ssize_t length, index
    cdef int number = 0
    if not (
        PyUnicode_CheckExact(<object> key)
        and PyUnicode_IS_COMPACT_ASCII(<object> key)
    ):
        return -1
    text = PyUnicode_1BYTE_DATA(<object> key)
    length = PyUnicode_GET_LENGTH(<object> key)
    if length == 1 and text[0] > c'9':
        if text[0] == c'h':
            return HEADER
        if text[0] == c't':
            return TYPE
        return PRIMARY if text[0] == c'p' else KEY_COUNT
    for index in range(length):
        if not c'0' <= text[index] <= c'9':
            return KEY_COUNT
    if length == 0:
        return KEY_COUNT
    if length > 3 or text[0] == c'0':
        return -1
    for index in range(length):
        number = number * 10 + (text[index] - c'0')
    return number if number <= DOCUMENT_FIELD_MAX else -1


cdef inline void hold(Writer* writer, bint wanted) noexcept:
    cdef uint64_t remaining
    cdef int word
    if writer.has_header:
        hold_one(writer.values[HEADER], wanted)
    hold_one(writer.values[TYPE], wanted)
    for word in range(BITMAP_WORDS):
        remaining = writer.given[word]
        while remaining:
            hold_one(writer.values[word * 64 + leading_zeros(remaining) + 1], wanted)
            remaining ^= field_bit(leading_zeros(remaining) + 1)


cdef inline void hold_one(PyObject* value, bint wanted) noexcept:
    if wanted:
        Py_INCREF(<object> value)
    else:
        Py_DECREF(<object> value)


# None when the document is not wholly in order.
cdef tuple write(dict document, dict spec, Writer* writer):
    cdef SpecPlans plans = plans_of(spec)
    cdef const FieldEntry* entry = entry_of(plans, spec, HEADER)
    cdef uint64_t remaining
    cdef int words, word, number
    if entry == NULL:
        return None
    cdef bint has_header = not entry.is_absent
    words = set_bitmaps(writer)
    cdef dict encoded = __Pyx_PyDict_NewPresized(
        has_header + 2 + bits_set(writer.bitmap[0]) + bits_set(writer.bitmap[1])
        + bits_set(writer.bitmap[2])
    )
    writer.out = writer.message
    if has_header and not (
        writer.has_header and write_part(plans, spec, writer, HEADER, encoded)
    ):
        return None
    if not write_part(plans, spec, writer, TYPE, encoded):
        return None
    if not write_bitmaps(plans, spec, writer, words, encoded):
        return None
    for word in range(BITMAP_WORDS):
        remaining = writer.given[word]
        while remaining:
            number = word * 64 + leading_zeros(remaining) + 1
            remaining ^= field_bit(number)
            if not write_part(plans, spec, writer, number, encoded):
                return None
    set_bitmap_texts(document, writer, words)
    message = PyByteArray_FromStringAndSize(
        <const char*> writer.message, writer.out - writer.message
    )
    return message, encoded


# How many bitmaps there are.
cdef int set_bitmaps(Writer* writer) noexcept:
    cdef uint64_t* bitmap = writer.bitmap
    memcpy(bitmap, writer.given, sizeof(writer.given))
    if bitmap[2]:
        bitmap[1] |= field_bit(1)
    if bitmap[1]:
        bitmap[0] |= field_bit(1)
    return 3 if bitmap[2] else 2 if bitmap[1] else 1


# Writes the part and puts it into the document; False when its text has not the length
# that its field has, or has characters that its encoding has not.
cdef inline bint write_part(
    SpecPlans plans, dict spec, Writer* writer, int number, dict encoded
) except -1:
    cdef const FieldEntry* entry = entry_of(plans, spec, number)
    cdef object value = <object> writer.values[number]
    cdef const FieldPlan* plan
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(value)
    cdef Py_ssize_t count, size, prefix_size
    cdef uint8_t* prefix = writer.out
    cdef uint8_t* data
    if entry == NULL:
        return False
    plan = &entry.plan
    prefix_size = plan.prefix_size
    count = text_count(plan, length)
    if prefix_size == 0:
        if count != plan.length:
            return False
    elif count < 0 or count > entry.count_max:
        return False
    else:
        write_prefix(plan, count, prefix)
    # There is no pad for it.
    if count & 1 and plan.data_form == DATA_BCD and plan.pad_nibble > 15:
        return False
    data = prefix + prefix_size
    if write_text(plan, PyUnicode_1BYTE_DATA(value), length, data) < 0:
        return False
    size = data_size(plan, count)
    # From here on objects are made, and the plan may be another one.
    writer.out = data + size
    put_entry(number, prefix, prefix_size, data, size, encoded)
    return True


cdef inline int put_entry(
    int number, const uint8_t* prefix, Py_ssize_t prefix_size,
    const uint8_t* data, Py_ssize_t size, dict encoded
) except -1:
    cdef dict entry = PyDict_New()
    if prefix_size:
        PyDict_SetItem(
            entry, LEN, PyBytes_FromStringAndSize(<const char*> prefix, prefix_size)
        )
    else:
        PyDict_SetItem(entry, LEN, NOTHING)
    PyDict_SetItem(
        entry, DATA, PyBytes_FromStringAndSize(<const char*> data, size)
    )
    PyDict_SetItem(encoded, <object> (<PyObject*> KEYS[number]), entry)
    return 0


# False when one cannot be written.
cdef bint write_bitmaps(
    SpecPlans plans, dict spec, Writer* writer, int words, dict encoded
) except -1:
    cdef uint8_t* start = writer.out
    cdef const FieldEntry* entry = entry_of(plans, spec, PRIMARY)
    cdef int word
    if entry == NULL:
        return False
    writer.out = write_bitmap(&entry.plan, writer.bitmap[0], start)
    put_entry(PRIMARY, NULL, 0, start, writer.out - start, encoded)
    if words == 1:
        return True
    entry = entry_of(plans, spec, SECONDARY)
    if entry == NULL:
        return False
    start = writer.out
    for word in range(1, words):
        writer.out = write_bitmap(&entry.plan, writer.bitmap[word], writer.out)
    put_entry(SECONDARY, NULL, 0, start, writer.out - start, encoded)
    return True


# Returns where it ends.
cdef uint8_t* write_bitmap(
    const FieldPlan* plan, uint64_t word, uint8_t* out
) noexcept:
    cdef uint8_t digits[BITMAP_DIGITS]
    cdef int index
    if plan.data_form == DATA_BINARY:
        for index in range(BITMAP_SIZE):
            out[index] = <uint8_t> (word >> (56 - 8 * index))
        return out + BITMAP_SIZE
    write_digits(word, digits)
    write_text(plan, digits, BITMAP_DIGITS, out)
    return out + BITMAP_DIGITS


cdef void write_digits(uint64_t word, uint8_t* out) noexcept:
    cdef uint8_t data[BITMAP_SIZE]
    cdef int index
    for index in range(BITMAP_SIZE):
        data[index] = <uint8_t> (word >> (56 - 8 * index))
    write_hex(data, BITMAP_SIZE, out)


# The document shows the bitmaps that were written, and no others.
cdef int set_bitmap_texts(dict document, Writer* writer, int words) except -1:
    if writer.has_secondary:
        document.pop("1", None)
    if writer.has_extended:
        document.pop("65", None)
    document["p"] = bitmap_text(writer.bitmap, 1)
    if words > 1:
        document["1"] = bitmap_text(writer.bitmap + 1, words - 1)
    return 0


cdef object bitmap_text(const uint64_t* bitmap, int words):
    cdef object text = PyUnicode_New(words * BITMAP_DIGITS, 127)
    cdef int word
    for word in range(words):
        write_digits(bitmap[word], PyUnicode_1BYTE_DATA(text) + word * BITMAP_DIGITS)
    return text
