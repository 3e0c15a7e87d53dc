# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
"""A spec compiled for the wire, and the walk over one frame.

Frame layout:

    [header] | MTI | primary bitmap | [secondary [tertiary]] | fields in order of number

A bitmap's first bit says that another one follows it.

Rule 1: the walk is the only place that trusts nothing. Whatever it let pass, the
        rest of the codec reads without checking again.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cimport cython

from iso8583._wire cimport (
    BITMAPS_MAX,
    DATA_BCD,
    DATA_BINARY,
    DATA_SIGNED,
    DATA_TEXT,
    DATA_UNDEFINED,
    FIELD_NUMBER_MAX,
    FRAME_SIZE_MAX,
    NOT_ASCII,
    PREFIX_BCD,
    PREFIX_BER,
    PREFIX_BINARY,
    PREFIX_NONE,
    PREFIX_TEXT,
    FieldPlan,
    FieldTable,
    ber_number_size,
    bitmaps_needed,
    data_size,
    field_bit,
    hex_value,
    leading_zeros,
    read_binary,
    read_prefix,
    read_text,
    table_has,
    table_rank,
    write_binary,
)

from iso8583 import header as _header
from iso8583 import spec as _spec

cdef const char* HEX_NIBBLES = b"0123456789ABCDEF"
# -- ISO 7813: track 2's field separator is "=", the nibble D; some networks write F.
cdef const char* TRACK_NIBBLES = b"0123456789ABC=EF"
cdef const char* TRACK_NIBBLES_F = b"0123456789ABCDE="

assert _spec.FIELD_NUMBER_MAX == FIELD_NUMBER_MAX
assert _spec.BITMAPS_MAX == BITMAPS_MAX
assert _spec.LENGTH_MAX == FRAME_SIZE_MAX
# In a HeaderPlan these are bytes; both headers of the reject form have room for one.
assert _header.HEADER_SIZE_MAX <= 0xFF


@cython.final
cdef class Layout:
    # The spec has passed `checked`: its numbers index arrays here.
    def __cinit__(self, spec):
        memset(self.plans, 0, sizeof(self.plans))
        self.tables = []
        self.compile_header(spec.header)
        mti = _spec.FieldSpec(
            name="MTI",
            content="n",
            length=MTI_DIGITS,
            encoding=spec.mti,
            prefix_encoding=spec.mti,
            unit="digits" if spec.mti == "bcd" else "characters",
        )
        encodings = [None] * (FIELD_NUMBER_MAX + 1)
        self.compile_field(&self.plans[0], mti)
        self.mti_size = MTI_DIGITS // 2 if spec.mti == "bcd" else MTI_DIGITS
        self.bitmap_size = 16 if spec.bitmap == "hex" else 8
        self.bitmaps_max = spec.bitmaps
        self.versions = 0
        for digit in spec.version_digits:
            self.versions |= 1 << <int> digit
        for number in spec.fields:
            field = spec.field(number)
            self.compile_field(&self.plans[<int> number], field)
            if self.plans[<int> number].data_form == DATA_TEXT:
                encodings[number] = field.encoding
        self.encodings = tuple(encodings)
        self.insides = (None,) * len(encodings)
        self.groups = dict(spec.groups) or None

    cdef int compile_header(self, object header) except -1:
        cdef HeaderPlan* plan = &self.header
        memset(plan, 0, sizeof(HeaderPlan))
        self.header_spec = header
        self.header_default = b""
        if header is None:
            return 0
        self.header_default = header.default
        plan.size = header.size
        plan.reject_size = header.reject_size
        plan.length_at, plan.length_size = header.place("header_length")
        plan.total_at, plan.total_size = header.place("total_length")
        plan.destination_at, plan.address_size = header.place("destination")
        plan.source_at, plan.address_size = header.place("source")
        plan.reject_bitmap_at, plan.reject_bitmap_size = header.place("reject_bitmap")
        plan.tpdu_at, plan.tpdu_size = header.place("tpdu")
        return 0

    cdef int compile_field(self, FieldPlan* plan, object field) except -1:
        plan.length = field.length
        plan.counts_per_byte = 2 if field.unit == "digits" else 1
        plan.pads_left = field.pad == "left"
        plan.pad_nibble = field.pad_nibble
        plan.nibble_to_ascii = <const uint8_t*> HEX_NIBBLES
        if field.content == "z":
            plan.nibble_to_ascii = <const uint8_t*> (
                TRACK_NIBBLES_F if field.separator == "F" else TRACK_NIBBLES
            )
        if field.sign is not None:
            plan.data_form = DATA_SIGNED
            self.keep_tables(field.sign, &plan.to_ascii, &plan.from_ascii)
        elif field.encoding == "bcd":
            plan.data_form = DATA_BCD
        elif field.encoding == "binary":
            plan.data_form = DATA_BINARY
        else:
            plan.data_form = DATA_TEXT
            self.keep_tables(field.encoding, &plan.to_ascii, &plan.from_ascii)
            plan.is_ascii = reads_and_writes_ascii(plan)
        plan.prefix_size = field.prefix_size
        if not field.prefix_digits:
            plan.prefix_form = PREFIX_NONE
        elif field.prefix_encoding == "bcd":
            plan.prefix_form = PREFIX_BCD
        elif field.prefix_encoding == "binary":
            plan.prefix_form = PREFIX_BINARY
        elif field.prefix_encoding == "ber":
            plan.prefix_form = PREFIX_BER
        else:
            plan.prefix_form = PREFIX_TEXT
            plan.prefix_zero = _spec.digit_zero(field.prefix_encoding)
        return 0

    # The pointers are into bytes objects that self.tables keeps alive. A codec of more
    # bytes a character has no table back: what is read but is not ASCII, and all that
    # is written, goes through the codec itself.
    cdef int keep_tables(
        self, str encoding, const uint8_t** to_ascii, const uint8_t** from_ascii
    ) except -1:
        cdef bytes table_to
        table_to, table_from = _spec.codec_tables(encoding)
        self.tables.append((table_to, table_from))
        to_ascii[0] = <const uint8_t*> <const char*> table_to
        from_ascii[0] = NULL
        if table_from is not None:
            from_ascii[0] = <const uint8_t*> <const char*> table_from
        return 0

    cdef int walk(
        self, const uint8_t* frame, Py_ssize_t size,
        uint32_t* mti_number, FieldTable* table, Fault* fault
    ) noexcept:
        table.bitmap[0] = table.bitmap[1] = table.bitmap[2] = 0
        table.count = 0
        if size > FRAME_SIZE_MAX:
            return fail(
                fault, FAULT_FRAME_OVERLONG, -1, FRAME_SIZE_MAX, FRAME_SIZE_MAX, size
            )
        cdef Py_ssize_t at = 0
        table.mti_at = 0
        if self.header.size:
            at = self.read_header(frame, size, fault)
            if at < 0:
                return -1
            table.mti_at = <uint16_t> at
        at = self.read_mti(frame, size, at, mti_number, fault)
        if at < 0:
            return -1
        cdef uint64_t bitmap[BITMAPS_MAX]
        at = self.read_bitmaps(frame, size, at, bitmap, fault)
        if at < 0:
            return -1
        table.starts[0] = <uint16_t> at
        cdef int word
        for word in range(BITMAPS_MAX):
            if bitmap[word] and walk_fields(
                self.plans, frame, size, word, bitmap[word], table, fault
            ) < 0:
                return -1
        at = table.starts[table.count]
        if at != size:
            return fail(fault, FAULT_TRAILING, -1, at, at, size)
        # Last, so that what is cut short or too long is told by its field.
        cdef const HeaderPlan* header = &self.header
        cdef uint32_t total
        if header.total_size:
            total = read_binary(frame + header.total_at, header.total_size)
            if total != size:
                return fail(
                    fault, FAULT_TOTAL_LENGTH, HEADER, header.total_at, size, total
                )
        return 0

    # Returns where the MTI begins, or -1. Which part a fault is in, its offset says.
    cdef Py_ssize_t read_header(
        self, const uint8_t* frame, Py_ssize_t size, Fault* fault
    ) noexcept:
        cdef const HeaderPlan* plan = &self.header
        cdef Py_ssize_t wanted = plan.size
        cdef uint32_t length
        if size < wanted:
            return fail(fault, FAULT_HEADER_TRUNCATED, HEADER, size, 0, 0)
        if not plan.length_size:
            return wanted
        length = read_binary(frame + plan.length_at, plan.length_size)
        if length == plan.size:
            return wanted
        if not plan.reject_size or length != plan.reject_size:
            return fail(
                fault, FAULT_HEADER_LENGTH, HEADER, plan.length_at, plan.size, length
            )
        wanted += plan.reject_size
        if size < wanted:
            return fail(fault, FAULT_HEADER_TRUNCATED, HEADER, size, 0, 0)
        if plan.reject_bitmap_size and not frame[plan.reject_bitmap_at] & 0x80:
            return fail(
                fault, FAULT_REJECT_BITMAP, HEADER, plan.reject_bitmap_at, 0, 0
            )
        return wanted

    cdef Py_ssize_t read_mti(
        self, const uint8_t* frame, Py_ssize_t size, Py_ssize_t at,
        uint32_t* mti_number, Fault* fault
    ) noexcept:
        cdef uint8_t digits[MTI_DIGITS]
        cdef uint32_t number = 0
        cdef int index
        if size - at < self.mti_size:
            return fail(
                fault, FAULT_MTI_TRUNCATED, 0, at, self.mti_size, size - at
            )
        if read_text(&self.plans[0], frame + at, MTI_DIGITS, digits) < 0:
            return fail(fault, FAULT_MTI_DIGITS, 0, at, MTI_DIGITS, 0)
        for index in range(MTI_DIGITS):
            if not c'0' <= digits[index] <= c'9':
                return fail(fault, FAULT_MTI_DIGITS, 0, at, MTI_DIGITS, 0)
            number = number << 4 | (digits[index] - c'0')
        if not self.versions >> (number >> 12) & 1:
            return fail(fault, FAULT_MTI_VERSION, 0, at, 0, number >> 12)
        mti_number[0] = number
        return at + self.mti_size

    # Returns where the first field begins, or -1.
    cdef Py_ssize_t read_bitmaps(
        self, const uint8_t* frame, Py_ssize_t size, Py_ssize_t at,
        uint64_t* bitmap, Fault* fault
    ) noexcept:
        cdef Py_ssize_t bitmap_size = self.bitmap_size
        cdef int word
        bitmap[0] = bitmap[1] = bitmap[2] = 0
        for word in range(self.bitmaps_max):
            if size - at < bitmap_size:
                return fail(
                    fault, FAULT_BITMAP_TRUNCATED, 1, at, bitmap_size, size - at
                )
            if read_bitmap(frame + at, bitmap_size, &bitmap[word]) < 0:
                return fail(fault, FAULT_BITMAP_HEX, 1, at, bitmap_size, 0)
            at += bitmap_size
            if not bitmap[word] & field_bit(1):
                break
            # The last bitmap's first bit is a field like any other.
            if word < self.bitmaps_max - 1:
                bitmap[word] ^= field_bit(1)
        return at

    cdef Py_ssize_t fields_at(self, const FieldTable* table) noexcept:
        return (
            table.mti_at + self.mti_size + bitmaps_needed(table) * self.bitmap_size
        )

    cdef void write_lengths(
        self, uint8_t* frame, Py_ssize_t mti_at, Py_ssize_t size
    ) noexcept:
        cdef const HeaderPlan* plan = &self.header
        write_binary(
            plan.size if mti_at == plan.size else plan.reject_size,
            plan.length_size, frame + plan.length_at,
        )
        write_binary(<uint32_t> size, plan.total_size, frame + plan.total_at)

    cdef void write_reply_header(
        self, const uint8_t* request, uint8_t* out, Py_ssize_t size
    ) noexcept:
        cdef const HeaderPlan* plan = &self.header
        memcpy(out, request, plan.size)
        memcpy(out + plan.destination_at, request + plan.source_at, plan.address_size)
        memcpy(out + plan.source_at, request + plan.destination_at, plan.address_size)
        if plan.tpdu_size:
            # A byte that identifies it, where it goes, where it is from.
            memcpy(out + plan.tpdu_at + 1, request + plan.tpdu_at + 3, 2)
            memcpy(out + plan.tpdu_at + 3, request + plan.tpdu_at + 1, 2)
        self.write_lengths(out, plan.size, size)

    cdef Py_ssize_t write_bitmaps(
        self, const FieldTable* table, uint8_t* out
    ) noexcept:
        cdef Py_ssize_t bitmap_size = self.bitmap_size
        cdef int last = bitmaps_needed(table) - 1
        cdef int word
        for word in range(last):
            write_bitmap(
                table.bitmap[word] | field_bit(1), bitmap_size, out + word * bitmap_size
            )
        write_bitmap(table.bitmap[last], bitmap_size, out + last * bitmap_size)
        return (last + 1) * bitmap_size


# Whether its tables change nothing of ASCII and let nothing else in.
cdef bint reads_and_writes_ascii(const FieldPlan* plan) noexcept:
    cdef int character
    for character in range(128):
        if plan.to_ascii[character] != character:
            return False
        if plan.from_ascii != NULL and plan.from_ascii[character] != character:
            return False
        if plan.to_ascii[128 + character] != NOT_ASCII:
            return False
    return True


# The fields of one bitmap. The table gets them at the end: in memory that could be
# anybody's, each step would wait for what the last one wrote.
cdef inline int walk_fields(
    const FieldPlan* plans, const uint8_t* frame, Py_ssize_t size,
    int word, uint64_t bitmap, FieldTable* table, Fault* fault
) noexcept:
    cdef uint64_t remaining = bitmap
    cdef uint16_t* start = &table.starts[table.count]
    cdef Py_ssize_t at = start[0]
    cdef int field
    while remaining:
        field = word * 64 + leading_zeros(remaining) + 1
        at = field_end(&plans[field], frame, size, at, field, fault)
        if at < 0:
            break
        start += 1
        start[0] = <uint16_t> at
        remaining ^= field_bit(field)
    table.bitmap[word] = bitmap ^ remaining
    table.count = <uint32_t> (start - table.starts)
    return -1 if remaining else 0


# Where the field at `at` ends, or -1.
cdef inline Py_ssize_t field_end(
    const FieldPlan* plan, const uint8_t* frame, Py_ssize_t size, Py_ssize_t at,
    int field, Fault* fault
) noexcept:
    cdef Py_ssize_t count = plan.length, wanted
    if plan.data_form == DATA_UNDEFINED:
        return fail(fault, FAULT_FIELD_UNDEFINED, field, at, 0, 0)
    if plan.prefix_size:
        if size - at < plan.prefix_size:
            return fail(
                fault, FAULT_PREFIX_TRUNCATED, field, at, plan.prefix_size, size - at
            )
        count = read_prefix(plan, frame + at)
        if count < 0:
            count = read_long_prefix(plan, frame, size, &at, field, fault)
            if count < 0:
                return -1
        if count > plan.length:
            return fail(
                fault, FAULT_FIELD_OVERLONG, field, at, plan.length, count
            )
        at += plan.prefix_size
    wanted = data_size(plan, count)
    if size - at < wanted:
        return fail(fault, FAULT_FIELD_TRUNCATED, field, at, wanted, size - at)
    return at + wanted


# What read_prefix leaves over: faults, and lengths of BER-TLV of more than a byte.
# Moves `at` on by as much as the prefix is longer than the plan says.
cdef Py_ssize_t read_long_prefix(
    const FieldPlan* plan, const uint8_t* frame, Py_ssize_t size,
    Py_ssize_t* at, int field, Fault* fault
) noexcept:
    cdef Py_ssize_t start = at[0], more, count
    if plan.prefix_form != PREFIX_BER:
        return fail(fault, FAULT_PREFIX_DIGITS, field, start, plan.prefix_size, 0)
    more = ber_number_size(frame[start])
    if more < 0:
        return fail(fault, FAULT_PREFIX_BER, field, start, 1, frame[start])
    if size - start < 1 + more:
        return fail(
            fault, FAULT_PREFIX_TRUNCATED, field, start, 1 + more, size - start
        )
    count = read_binary(frame + start + 1, more)
    if count > plan.length:
        return fail(fault, FAULT_FIELD_OVERLONG, field, start, plan.length, count)
    at[0] = start + more
    return count


cdef int fail(
    Fault* fault, FaultKind kind, int field,
    Py_ssize_t offset, Py_ssize_t expected, Py_ssize_t got
) noexcept:
    fault.kind = kind
    fault.field = field
    fault.offset = offset
    fault.expected = expected
    fault.got = got
    return -1


cdef inline int read_bitmap(
    const uint8_t* data, Py_ssize_t size, uint64_t* bitmap
) noexcept nogil:
    cdef uint64_t word = 0
    cdef Py_ssize_t index
    cdef uint8_t digit, wrong = 0
    if size == 8:
        for index in range(8):
            word = word << 8 | data[index]
    else:
        for index in range(16):
            digit = hex_value(data[index])
            wrong |= digit
            word = word << 4 | (digit & 0x0F)
    bitmap[0] = word
    return -1 if wrong > 15 else 0


cdef inline void write_bitmap(
    uint64_t bitmap, Py_ssize_t size, uint8_t* out
) noexcept nogil:
    cdef Py_ssize_t index
    if size == 8:
        for index in range(8):
            out[index] = <uint8_t> (bitmap >> (56 - 8 * index))
    else:
        for index in range(16):
            out[index] = HEX_NIBBLES[bitmap >> (60 - 4 * index) & 0x0F]


# ---- a frame made from another

# Header, MTI and bitmaps of a frame of this size, from those of another.
cdef int write_head(
    Layout layout, const FieldTable* table, bytes source, uint8_t* out,
    Py_ssize_t size
) except -1:
    cdef Py_ssize_t bitmaps_at = table.mti_at + layout.mti_size
    memcpy(out, PyBytes_AS_STRING(source), bitmaps_at)
    layout.write_lengths(out, table.mti_at, size)
    layout.write_bitmaps(table, out + bitmaps_at)
    return 0


# The table after the field has taken (or given up, when 0) this many bytes: fields
# before it keep their place in the body, those after it move. Returns the frame's
# size, which the caller compares with FRAME_SIZE_MAX before it uses the table.
cdef Py_ssize_t splice_table(
    Layout layout, const FieldTable* old, FieldTable* new,
    int field, Py_ssize_t wire_size
) noexcept:
    cdef int rank = table_rank(old, field)
    cdef int removed = table_has(old, field)
    cdef int added = wire_size > 0
    cdef int index
    new.mti_at = old.mti_at
    new.bitmap[0] = old.bitmap[0]
    new.bitmap[1] = old.bitmap[1]
    new.bitmap[2] = old.bitmap[2]
    if removed != added:
        new.bitmap[(field - 1) >> 6] ^= field_bit(field)
    new.count = old.count + added - removed
    cdef Py_ssize_t head_shift = layout.fields_at(new) - old.starts[0]
    cdef Py_ssize_t shift = (
        head_shift + wire_size - (old.starts[rank + removed] - old.starts[rank])
    )
    for index in range(rank + 1):
        new.starts[index] = <uint16_t> (old.starts[index] + head_shift)
    for index in range(rank + removed, <int> old.count + 1):
        new.starts[index + added - removed] = <uint16_t> (old.starts[index] + shift)
    return old.starts[old.count] + shift


# ---- what to say about a fault

cdef tuple fault_texts(Layout layout, bytes frame, const Fault* fault):
    cdef const FieldPlan* plan = &layout.plans[max(fault.field, 0)]
    if fault.kind == FAULT_FRAME_OVERLONG:
        return f"at most {fault.expected} bytes", f"{fault.got}"
    if fault.kind == FAULT_HEADER_TRUNCATED:
        _, start, size = layout.header_spec.part_at(fault.offset)
        return f"{size} bytes", f"{fault.offset - start}"
    if fault.kind == FAULT_HEADER_LENGTH:
        lengths = f"{fault.expected}"
        if layout.header.reject_size:
            lengths += f" or {layout.header.reject_size}"
        return lengths, f"{fault.got}"
    if fault.kind == FAULT_REJECT_BITMAP:
        return "its first bit set", "0"
    if fault.kind == FAULT_TOTAL_LENGTH:
        return f"{fault.expected}", f"{fault.got}"
    if fault.kind in (FAULT_MTI_TRUNCATED, FAULT_BITMAP_TRUNCATED):
        return f"{fault.expected} bytes", f"{fault.got}"
    if fault.kind == FAULT_MTI_DIGITS:
        mti = frame[fault.offset:fault.offset + layout.mti_size]
        return "4 digits", first_bytes(mti)
    if fault.kind == FAULT_MTI_VERSION:
        return expected_version(layout), f"{fault.got}"
    if fault.kind == FAULT_BITMAP_HEX:
        return f"{fault.expected} hex digits", "another character"
    if fault.kind == FAULT_FIELD_UNDEFINED:
        return "a field of the spec", "an undefined one"
    if fault.kind == FAULT_PREFIX_TRUNCATED:
        return f"a length prefix of {fault.expected} bytes", f"{fault.got}"
    if fault.kind == FAULT_PREFIX_DIGITS:
        prefix = frame[fault.offset:fault.offset + fault.expected]
        return "a length prefix of digits", first_bytes(prefix)
    if fault.kind == FAULT_PREFIX_BER:
        return "a length of BER-TLV in at most 5 bytes", f"{fault.got:02x}"
    if fault.kind == FAULT_FIELD_OVERLONG:
        return expected_length(plan), f"{fault.got}"
    if fault.kind == FAULT_FIELD_TRUNCATED:
        return f"{fault.expected} bytes of data", f"{fault.got}"
    assert fault.kind == FAULT_TRAILING
    return "the end of the message", f"{fault.got - fault.offset} more bytes"


# In hex. It may be any data, a card number among it: two bytes tell an encoding.
cdef str first_bytes(bytes data):
    return data[:2].hex() + ("..." if len(data) > 2 else "")


cdef str expected_version(Layout layout):
    digits = [str(digit) for digit in range(10) if layout.versions >> digit & 1]
    return f"version {' or '.join(digits)}"


cdef str unit_name(const FieldPlan* plan):
    if plan.data_form == DATA_SIGNED:
        return "characters"
    if plan.data_form == DATA_TEXT:
        return "bytes" if plan.from_ascii == NULL else "characters"
    return "digits" if plan.counts_per_byte == 2 else "bytes"


cdef str expected_length(const FieldPlan* plan):
    most = "at most " if plan.prefix_size else ""
    return f"{most}{plan.length} {unit_name(plan)}"
