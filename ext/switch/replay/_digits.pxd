# Decimal digits written into an encoded message, whatever their encoding.

from libc.stdint cimport uint8_t, uint64_t


cdef struct Place:
    # `count` digits: digit i is the half byte first + i * stride of the frame. Stride
    # 2 is a byte a digit, its zone (0x3. ASCII, 0xF. EBCDIC) left as it is; stride 1
    # is packed BCD.
    int first
    int stride
    int count


cdef inline void put_digit(uint8_t* frame, int at, uint8_t digit) noexcept:
    if at & 1:
        frame[at >> 1] = (frame[at >> 1] & 0xF0) | digit
    else:
        frame[at >> 1] = (frame[at >> 1] & 0x0F) | <uint8_t>(digit << 4)


cdef inline void put_digits(
    uint8_t* frame, const Place* place, const uint8_t* digits
) noexcept:
    cdef int index
    for index in range(place.count):
        put_digit(frame, place.first + index * place.stride, digits[index])


cdef inline void put_number(
    uint8_t* frame, const Place* place, uint64_t value
) noexcept:
    cdef int at = place.first + (place.count - 1) * place.stride
    while at >= place.first:
        put_digit(frame, at, <uint8_t>(value % 10))
        value = value // 10
        at -= place.stride
