# cython: language_level=3
# Hex digits and bytes, whole runs at a time: plain loops that compilers vectorise.

from libc.stdint cimport uint8_t

cdef enum:
    HEX_RUN = 128


# Writes two upper-case digits a byte.
cdef inline void write_hex(
    const uint8_t* data, Py_ssize_t size, uint8_t* out
) noexcept nogil:
    cdef Py_ssize_t index
    cdef uint8_t high, low
    for index in range(size):
        high = data[index] >> 4
        low = data[index] & 0x0F
        out[2 * index] = high + (c'0' if high < 10 else c'A' - 10)
        out[2 * index + 1] = low + (c'0' if low < 10 else c'A' - 10)


cdef inline uint8_t at_least(uint8_t value, uint8_t least) noexcept nogil:
    return value if value > least else least


cdef inline uint8_t at_most(uint8_t value, uint8_t most) noexcept nogil:
    return value if value < most else most


# Reads two digits a byte, of either case; -1 when a character is none.
cdef inline int read_hex(
    const uint8_t* digits, Py_ssize_t size, uint8_t* out
) noexcept nogil:
    cdef uint8_t nibbles[2 * HEX_RUN]
    cdef uint8_t decimal, letter, most = 0
    cdef Py_ssize_t done = 0, run, index
    while done < size:
        run = size - done if size - done < HEX_RUN else HEX_RUN
        for index in range(2 * run):
            # Digits become 0 to 9 and letters 10 to 15; of anything else, both come
            # out above: "at least" and "at most" are there for what would wrap around.
            decimal = at_least(<uint8_t> (digits[2 * done + index] + 0xC6), 6) - 0xF6
            letter = <uint8_t> ((digits[2 * done + index] & 0xDF) - c'A')
            letter = at_most(letter, 0xF5) + 10
            nibbles[index] = at_most(decimal, letter)
            most = at_least(most, nibbles[index])
        for index in range(run):
            out[done + index] = nibbles[2 * index] << 4 | nibbles[2 * index + 1]
        done += run
    return -1 if most > 15 else 0
