# A spec compiled for the wire, and the walk over one frame.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from iso8583._wire cimport FIELD_NUMBER_MAX, FieldPlan, FieldTable, HeaderPlan


cdef enum:
    MTI_DIGITS = 4

cdef enum FaultKind:
    FAULT_NONE = 0
    FAULT_FRAME_OVERLONG
    FAULT_HEADER_TRUNCATED
    FAULT_HEADER_LENGTH
    FAULT_REJECT_BITMAP
    FAULT_MTI_TRUNCATED
    FAULT_MTI_DIGITS
    FAULT_MTI_VERSION
    FAULT_BITMAP_TRUNCATED
    FAULT_BITMAP_HEX
    FAULT_FIELD_UNDEFINED
    FAULT_PREFIX_TRUNCATED
    FAULT_PREFIX_DIGITS
    FAULT_PREFIX_BER
    FAULT_FIELD_OVERLONG
    FAULT_FIELD_TRUNCATED
    FAULT_TRAILING
    FAULT_TOTAL_LENGTH

cdef enum:
    # Field of a fault in the message header: which part, its offset says.
    HEADER = -2

# Why a walk stopped, where, and the two sizes or counts that disagree.
cdef struct Fault:
    FaultKind kind
    int field
    Py_ssize_t offset
    Py_ssize_t expected
    Py_ssize_t got


cdef class Layout:
    cdef HeaderPlan header
    # The iso8583.header.HeaderSpec behind it, or None.
    cdef object header_spec
    # The header of a message that is given none; lengths are still to be written.
    cdef bytes header_default
    # Plan 0 is the MTI's. A field that the spec does not define is DATA_UNDEFINED.
    cdef FieldPlan plans[FIELD_NUMBER_MAX + 1]
    cdef uint8_t mti_size
    # 8, or 16 as hex digits.
    cdef uint8_t bitmap_size
    # How many bitmaps a message may have, one behind the other.
    cdef uint8_t bitmaps_max
    # Bit N: an MTI may begin with the digit N.
    cdef uint16_t versions
    # The Python codec of each text field.
    cdef tuple encodings
    # What is inside each field (iso8583._inside.Container), or None; the codec's.
    cdef tuple insides
    # The fields of each group, by its name; None where there is no group.
    cdef dict groups
    # Owns the tables that the plans point into.
    cdef list tables

    cdef int compile_field(self, FieldPlan* plan, object field) except -1
    cdef int keep_tables(
        self, str encoding, const uint8_t** to_ascii, const uint8_t** from_ascii
    ) except -1
    cdef int compile_header(self, object header) except -1
    cdef Py_ssize_t read_header(
        self, const uint8_t* frame, Py_ssize_t size, Fault* fault
    ) noexcept
    cdef Py_ssize_t read_mti(
        self, const uint8_t* frame, Py_ssize_t size, Py_ssize_t at,
        uint32_t* mti_number, Fault* fault
    ) noexcept
    cdef Py_ssize_t read_bitmaps(
        self, const uint8_t* frame, Py_ssize_t size, Py_ssize_t at,
        uint64_t* bitmap, Fault* fault
    ) noexcept
    # Checks the frame's bitmaps and every length. Returns -1 with `fault` filled in;
    # `table` then holds the fields before the fault.
    cdef int walk(
        self, const uint8_t* frame, Py_ssize_t size,
        uint32_t* mti_number, FieldTable* table, Fault* fault
    ) noexcept
    # Where the first field begins: behind header, MTI and the bitmaps needed.
    cdef Py_ssize_t fields_at(self, const FieldTable* table) noexcept
    # Makes the lengths right in the header of a frame of this size.
    cdef void write_lengths(
        self, uint8_t* frame, Py_ssize_t mti_at, Py_ssize_t size
    ) noexcept
    # The header of a reply of this size: the request's, turned round.
    cdef void write_reply_header(
        self, const uint8_t* request, uint8_t* out, Py_ssize_t size
    ) noexcept
    # Writes the bitmaps that the table needs. Returns their size.
    cdef Py_ssize_t write_bitmaps(
        self, const FieldTable* table, uint8_t* out
    ) noexcept


# What was expected and what came: (expected, got).
cdef tuple fault_texts(Layout layout, bytes frame, const Fault* fault)
# What an MTI of this spec begins with, for people.
cdef str expected_version(Layout layout)
# "at most 19 digits"
cdef str expected_length(const FieldPlan* plan)
# Header, MTI and bitmaps of a frame of this size, from those of another.
cdef int write_head(
    Layout layout, const FieldTable* table, bytes source, uint8_t* out,
    Py_ssize_t size
) except -1
cdef Py_ssize_t splice_table(
    Layout layout, const FieldTable* old, FieldTable* new,
    int field, Py_ssize_t wire_size
) noexcept
