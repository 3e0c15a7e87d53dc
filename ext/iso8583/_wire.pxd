# cython: language_level=3
# How one field lies on the wire: pure C, inlined into every module that cimports it.
#
#     [length prefix] data
#
#     prefix   text digits ("19" in ASCII or EBCDIC), packed BCD digits, binary, or
#              a length of BER-TLV: one byte up to 127, else 81 to 84 and as many
#     data     text      one byte a character, through a table made from a Python
#                        codec; where it takes more bytes, the codec itself
#              BCD       two digits a byte; an odd count has one pad nibble
#              signed    a character, C or D, and an even number of packed digits
#              binary    bytes, shown as uppercase hex
#
# "count" is what the length prefix counts: characters, digits or bytes. "length" is
# the number of characters that the field has as text; "size" is always bytes.
# Callers have checked that the buffers hold what the plan says: nothing here does.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from iso8583._hex cimport read_hex, write_hex


cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) noexcept nogil
    int bits_set "__builtin_popcountll"(unsigned long long) noexcept nogil


cdef enum:
    # Primary, secondary and tertiary bitmap.
    BITMAPS_MAX = 3
    FIELD_NUMBER_MAX = 64 * BITMAPS_MAX
    # Offsets are kept in 16 bits, and a two-byte frame header can say no more.
    FRAME_SIZE_MAX = 0xFFFF
    # In a table from wire bytes to ASCII: this byte is no ASCII character.
    NOT_ASCII = 0xFF
    # What int64 holds whatever the digits.
    NUMBER_DIGITS_MAX = 18

cdef enum DataForm:
    DATA_UNDEFINED = 0
    DATA_TEXT
    DATA_BCD
    DATA_BINARY
    # Counts like BCD: the sign takes a byte, which the walk need not know, since it
    # is where the pad nibble of as many digits would be.
    DATA_SIGNED

cdef enum PrefixForm:
    PREFIX_NONE = 0
    PREFIX_TEXT
    PREFIX_BCD
    PREFIX_BINARY
    PREFIX_BER

cdef enum:
    # The longest length of BER-TLV: its number may have zeros before it.
    BER_PREFIX_SIZE_MAX = 5

cdef enum:
    ABSENT = -1
    UNREADABLE = -2


cdef struct Span:
    const uint8_t* data
    Py_ssize_t size

cdef struct FieldPlan:
    # Text and signs: 256 wire bytes to ASCII or NOT_ASCII, and 128 characters back;
    # NULL where the codec itself has to write the text.
    const uint8_t* to_ascii
    const uint8_t* from_ascii
    # BCD: the characters of the 16 nibbles.
    const uint8_t* nibble_to_ascii
    # Exact where there is no prefix, else the maximum, as a count.
    uint16_t length
    uint8_t data_form
    uint8_t prefix_form
    # Of BER-TLV: the least, which is one byte.
    uint8_t prefix_size
    # Of a text prefix: the byte of the digit 0, behind which those of 1 to 9 are.
    uint8_t prefix_zero
    # 2 where BCD counts its digits, else 1.
    uint8_t counts_per_byte
    uint8_t pads_left
    uint8_t pad_nibble
    # Text that is ASCII on the wire: it is copied, not looked up.
    uint8_t is_ascii

# The message header before the MTI. Of a part that is not there, the size is 0.
cdef struct HeaderPlan:
    # 0: the spec has none.
    uint8_t size
    # Of the reject form, whose original header follows it; 0: there is no such form.
    uint8_t reject_size
    uint8_t length_at
    uint8_t length_size
    uint8_t total_at
    uint8_t total_size
    uint8_t destination_at
    uint8_t source_at
    uint8_t address_size
    uint8_t reject_bitmap_at
    uint8_t reject_bitmap_size
    uint8_t tpdu_at
    uint8_t tpdu_size

# Which fields a message has, and where.
cdef struct FieldTable:
    # Field 1 is the highest bit of the first word. That another bitmap follows is
    # not kept here: whether it has fields says it.
    uint64_t bitmap[BITMAPS_MAX]
    uint32_t count
    # Where the MTI begins: the size of the message header.
    uint16_t mti_at
    # Where each field present begins (prefix included), in order, then the body's end.
    uint16_t starts[FIELD_NUMBER_MAX + 1]


# ---- bytes

# memcpy for what is mostly short: a call takes longer than it does.
cdef inline void copy_bytes(
    uint8_t* out, const uint8_t* data, Py_ssize_t size
) noexcept nogil:
    if size > 16:
        memcpy(out, data, size)
    elif size >= 8:
        # The last ones overlap those before, here and below.
        memcpy(out, data, 8)
        memcpy(out + size - 8, data + size - 8, 8)
    elif size >= 4:
        memcpy(out, data, 4)
        memcpy(out + size - 4, data + size - 4, 4)
    elif size >= 2:
        memcpy(out, data, 2)
        memcpy(out + size - 2, data + size - 2, 2)
    elif size == 1:
        out[0] = data[0]


# ---- bitmap

cdef inline uint64_t field_bit(int field) noexcept nogil:
    return (<uint64_t> 1) << (63 - ((field - 1) & 63))


cdef inline bint table_has(const FieldTable* table, int field) noexcept nogil:
    if field < 2 or field > FIELD_NUMBER_MAX:
        return False
    return (table.bitmap[(field - 1) >> 6] & field_bit(field)) != 0


# How many of the fields present come before this one.
cdef inline int table_rank(const FieldTable* table, int field) noexcept nogil:
    cdef uint64_t bit = field_bit(field)
    cdef uint64_t before = ~(bit | (bit - 1))
    cdef int word = (field - 1) >> 6
    cdef int rank = bits_set(table.bitmap[word] & before)
    cdef int earlier
    for earlier in range(word):
        rank += bits_set(table.bitmap[earlier])
    return rank


# How many bitmaps its fields need.
cdef inline int bitmaps_needed(const FieldTable* table) noexcept nogil:
    if table.bitmap[2]:
        return 3
    return 2 if table.bitmap[1] else 1


# ---- binary numbers, big-endian

cdef inline uint32_t read_binary(
    const uint8_t* data, Py_ssize_t size
) noexcept nogil:
    cdef uint32_t number = 0
    cdef Py_ssize_t index
    for index in range(size):
        number = number << 8 | data[index]
    return number


cdef inline void write_binary(
    uint32_t number, Py_ssize_t size, uint8_t* out
) noexcept nogil:
    cdef Py_ssize_t index
    for index in range(size - 1, -1, -1):
        out[index] = <uint8_t> (number & 0xFF)
        number >>= 8


# ---- digits

# 0..15, or 255.
cdef inline uint8_t hex_value(uint8_t character) noexcept nogil:
    if c'0' <= character <= c'9':
        return character - c'0'
    if c'A' <= character <= c'F':
        return character - c'A' + 10
    if c'a' <= character <= c'f':
        return character - c'a' + 10
    return 255


cdef inline uint8_t nibble_at(const uint8_t* data, Py_ssize_t index) noexcept nogil:
    return data[index >> 1] & 0x0F if index & 1 else data[index >> 1] >> 4


# ---- the length prefix

# The count; -1 when the prefix has something other than digits, or is a length of
# BER-TLV that takes more than its first byte.
cdef inline Py_ssize_t read_prefix(
    const FieldPlan* plan, const uint8_t* data
) noexcept nogil:
    cdef Py_ssize_t count = 0, index
    cdef uint8_t high, low
    if plan.prefix_form == PREFIX_TEXT:
        for index in range(plan.prefix_size):
            low = data[index] - plan.prefix_zero
            if low > 9:
                return -1
            count = count * 10 + low
    elif plan.prefix_form == PREFIX_BCD:
        for index in range(plan.prefix_size):
            high = data[index] >> 4
            low = data[index] & 0x0F
            if high > 9 or low > 9:
                return -1
            count = count * 100 + high * 10 + low
    else:
        count = read_binary(data, plan.prefix_size)
        if plan.prefix_form == PREFIX_BER and count > 0x7F:
            return -1
    return count


# How many bytes of BER-TLV's length follow its first, or -1 when it has no number.
cdef inline Py_ssize_t ber_number_size(uint8_t first) noexcept nogil:
    return first & 0x7F if 0x81 <= first < 0x80 + BER_PREFIX_SIZE_MAX else -1


# Where the data begins behind a prefix that the walk has passed, and its count.
cdef inline Py_ssize_t read_content(
    const FieldPlan* plan, const uint8_t* field, const uint8_t** data
) noexcept nogil:
    cdef Py_ssize_t count, more
    data[0] = field + plan.prefix_size
    if not plan.prefix_size:
        return plan.length
    count = read_prefix(plan, field)
    if count < 0:
        more = ber_number_size(field[0])
        data[0] += more
        count = read_binary(field + 1, more)
    return count


# The size of the prefix that is written for this count.
cdef inline Py_ssize_t prefix_size(
    const FieldPlan* plan, Py_ssize_t count
) noexcept nogil:
    if plan.prefix_form == PREFIX_BER and count > 0x7F:
        return 2 if count <= 0xFF else 3
    return plan.prefix_size


cdef inline void write_prefix(
    const FieldPlan* plan, Py_ssize_t count, uint8_t* out
) noexcept nogil:
    # Unsigned, for which the division of C is Python's.
    cdef uint32_t left = <uint32_t> count
    cdef Py_ssize_t index
    if plan.prefix_form == PREFIX_BER and count > 0x7F:
        index = prefix_size(plan, count) - 1
        out[0] = <uint8_t> (0x80 | index)
        write_binary(left, index, out + 1)
        return
    for index in range(plan.prefix_size - 1, -1, -1):
        if plan.prefix_form == PREFIX_TEXT:
            out[index] = <uint8_t> (plan.prefix_zero + left % 10U)
            left //= 10U
        elif plan.prefix_form == PREFIX_BCD:
            out[index] = <uint8_t> (left // 10U % 10U << 4 | left % 10U)
            left //= 100U
        else:
            out[index] = <uint8_t> (left & 0xFF)
            left >>= 8


# ---- count, size, length

cdef inline Py_ssize_t data_size(
    const FieldPlan* plan, Py_ssize_t count
) noexcept nogil:
    return (count + 1) >> 1 if plan.counts_per_byte == 2 else count


cdef inline Py_ssize_t text_length(
    const FieldPlan* plan, Py_ssize_t count
) noexcept nogil:
    if plan.data_form == DATA_TEXT or plan.counts_per_byte == 2:
        return count
    return count * 2


# The count of a text of this length, or -1 when half a byte would be left over.
cdef inline Py_ssize_t text_count(
    const FieldPlan* plan, Py_ssize_t length
) noexcept nogil:
    if plan.data_form == DATA_TEXT or plan.counts_per_byte == 2:
        return length
    return -1 if length & 1 else length >> 1


# ---- the data

# Where the digits begin, counted in nibbles, or -1 when the pad nibble is another one.
cdef inline Py_ssize_t first_nibble(
    const FieldPlan* plan, const uint8_t* data, Py_ssize_t count
) noexcept nogil:
    if plan.counts_per_byte == 1 or not count & 1:
        return 0
    if nibble_at(data, 0 if plan.pads_left else count) != plan.pad_nibble:
        return -1
    return plan.pads_left


# Credit or debit.
cdef inline bint is_sign(uint8_t character) noexcept nogil:
    return character == c'C' or character == c'D'


cdef inline bint all_ascii(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    cdef uint64_t seen = 0, word
    cdef Py_ssize_t index
    if size < 8:
        for index in range(size):
            seen |= data[index]
        return seen < 0x80
    for index in range(0, size - 8, 8):
        memcpy(&word, data + index, 8)
        seen |= word
    # The last ones overlap those before.
    memcpy(&word, data + size - 8, 8)
    return (seen | word) & 0x8080808080808080ULL == 0


# Writes the field as ASCII text; -1 when it has no such form.
cdef inline int read_text(
    const FieldPlan* plan, const uint8_t* data, Py_ssize_t count, uint8_t* out
) noexcept nogil:
    cdef Py_ssize_t index, skipped
    cdef uint8_t character, nibble, seen = 0
    if plan.is_ascii:
        if not all_ascii(data, count):
            return -1
        copy_bytes(out, data, count)
        return 0
    if plan.data_form == DATA_TEXT:
        for index in range(count):
            character = plan.to_ascii[data[index]]
            seen |= character
            out[index] = character
        return -1 if seen & 0x80 else 0
    if plan.data_form == DATA_BCD:
        skipped = first_nibble(plan, data, count)
        if skipped < 0:
            return -1
        for index in range(text_length(plan, count)):
            out[index] = plan.nibble_to_ascii[nibble_at(data, index + skipped)]
        return 0
    if plan.data_form == DATA_SIGNED:
        out[0] = plan.to_ascii[data[0]]
        for index in range(1, count):
            nibble = nibble_at(data, index + 1)
            seen |= nibble + 6
            out[index] = c'0' + nibble
        return 0 if is_sign(out[0]) and not seen & 0x10 else -1
    write_hex(data, count, out)
    return 0


# The field as a number; UNREADABLE when it is empty, not all digits, or too long.
cdef inline int64_t read_number(
    const FieldPlan* plan, const uint8_t* data, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t length = text_length(plan, count)
    cdef uint8_t digits[NUMBER_DIGITS_MAX]
    cdef uint8_t digit
    cdef Py_ssize_t index
    cdef int64_t number = 0
    if length == 0 or length > NUMBER_DIGITS_MAX:
        return UNREADABLE
    if read_text(plan, data, count, digits) < 0:
        return UNREADABLE
    for index in range(length):
        digit = digits[index] - c'0'
        if digit > 9:
            return UNREADABLE
        number = number * 10 + digit
    return number


# 0..15, or 255. Track 2 writes its separator, "=", as the nibble D, or F.
cdef inline uint8_t nibble_value(
    const FieldPlan* plan, uint8_t character
) noexcept nogil:
    if character == c'=' and plan.nibble_to_ascii[0x0D] == c'=':
        return 0x0D
    if character == c'=' and plan.nibble_to_ascii[0x0F] == c'=':
        return 0x0F
    return hex_value(character)


# Writes the data of an ASCII text; when a character has no place in the form,
# -1 less its index.
cdef inline int write_text(
    const FieldPlan* plan, const uint8_t* text, Py_ssize_t length, uint8_t* out
) noexcept nogil:
    cdef Py_ssize_t index, place = 0
    cdef uint8_t value
    if plan.is_ascii:
        copy_bytes(out, text, length)
        return 0
    if plan.data_form == DATA_TEXT:
        for index in range(length):
            out[index] = plan.from_ascii[text[index]]
        return 0
    if plan.data_form == DATA_BINARY:
        if read_hex(text, length >> 1, out) == 0:
            return 0
        # Which one it is matters only now.
        while place < length and hex_value(text[place]) <= 15:
            place += 1
        return -1 - <int> place
    memset(out, 0, (length + 1) >> 1)
    if plan.data_form == DATA_SIGNED:
        if not is_sign(text[0]):
            return -1
        out[0] = plan.from_ascii[text[0]]
        for index in range(1, length):
            value = text[index] - c'0'
            if value > 9:
                return -1 - <int> index
            out[(index + 1) >> 1] |= value if (index + 1) & 1 else value << 4
        return 0
    if length & 1:
        # The pad goes first or last.
        if plan.pads_left:
            place = 1
            out[0] = plan.pad_nibble << 4
        else:
            out[length >> 1] = plan.pad_nibble
    for index in range(length):
        value = nibble_value(plan, text[index])
        if value > 15:
            return -1 - <int> index
        out[(index + place) >> 1] |= value if (index + place) & 1 else value << 4
    return 0
