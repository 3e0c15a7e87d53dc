# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The keyed hash that cards are found by: BLAKE2b-128 with a key (RFC 7693), of the
ASCII digits of a PAN.

`hashlib` has it too. Here for the hot path: the block of the key is compressed once,
not for every message, and no object is made.
"""
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

import sys

if sys.byteorder != "little":
    raise ImportError("switch.keys takes a block as little-endian words")

cdef enum:
    KEY_SIZE_MAX = 64
    BLOCK_SIZE = 128
    HASH_SIZE = 16
    ROUNDS = 12
    PERMUTATIONS = 10

# RFC 7693, 2.6 and 2.7; the last two rounds take the first permutations again.
cdef uint64_t INITIAL[8]
INITIAL[:] = [
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
]
cdef uint8_t ORDER[PERMUTATIONS][16]
for _round, _order in enumerate((
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)):
    for _place, _word in enumerate(_order):
        ORDER[_round][_place] = _word


cdef inline uint64_t _turned(uint64_t word, int bits) noexcept nogil:
    return (word >> bits) | (word << (64 - bits))


cdef inline void _mix(
    uint64_t* v, int a, int b, int c, int d, uint64_t x, uint64_t y
) noexcept nogil:
    """The function G of RFC 7693, 3.1."""
    v[a] = v[a] + v[b] + x
    v[d] = _turned(v[d] ^ v[a], 32)
    v[c] = v[c] + v[d]
    v[b] = _turned(v[b] ^ v[c], 24)
    v[a] = v[a] + v[b] + y
    v[d] = _turned(v[d] ^ v[a], 16)
    v[c] = v[c] + v[d]
    v[b] = _turned(v[b] ^ v[c], 63)


cdef void _compress(
    uint64_t* state, const uint8_t* block, uint64_t count, bint is_last
) noexcept nogil:
    """The function F of RFC 7693, 3.2; `count` bytes with those of this block."""
    cdef uint64_t m[16]
    cdef uint64_t v[16]
    cdef const uint8_t* order
    cdef int i
    memcpy(m, block, BLOCK_SIZE)
    for i in range(8):
        v[i] = state[i]
        v[i + 8] = INITIAL[i]
    v[12] ^= count
    if is_last:
        v[14] = ~v[14]
    for i in range(ROUNDS):
        order = ORDER[i % PERMUTATIONS]
        _mix(v, 0, 4, 8, 12, m[order[0]], m[order[1]])
        _mix(v, 1, 5, 9, 13, m[order[2]], m[order[3]])
        _mix(v, 2, 6, 10, 14, m[order[4]], m[order[5]])
        _mix(v, 3, 7, 11, 15, m[order[6]], m[order[7]])
        _mix(v, 0, 5, 10, 15, m[order[8]], m[order[9]])
        _mix(v, 1, 6, 11, 12, m[order[10]], m[order[11]])
        _mix(v, 2, 7, 8, 13, m[order[12]], m[order[13]])
        _mix(v, 3, 4, 9, 14, m[order[14]], m[order[15]])
    for i in range(8):
        state[i] ^= v[i] ^ v[i + 8]


cdef class PanHash:
    """`PanHash(key)(digits)` is `hashlib.blake2b(digits, key=key, digest_size=16)`.

    `key`: 1 to 64 bytes. `digits`: 1 to 128 bytes; that they are digits is not looked
    at.
    """

    def __init__(self, bytes key not None):
        cdef uint8_t block[BLOCK_SIZE]
        if not 1 <= len(key) <= KEY_SIZE_MAX:
            raise ValueError(f"key: expected 1 to {KEY_SIZE_MAX} bytes, got {len(key)}")
        memset(block, 0, BLOCK_SIZE)
        memcpy(block, PyBytes_AS_STRING(key), len(key))
        memcpy(self.keyed, INITIAL, sizeof(self.keyed))
        # RFC 7693, 2.5: no tree, a fan-out of one
        self.keyed[0] ^= 0x01010000 ^ (<uint64_t> len(key) << 8) ^ HASH_SIZE
        _compress(self.keyed, block, BLOCK_SIZE, False)
        memset(block, 0, BLOCK_SIZE)

    def __call__(self, bytes digits not None):
        cdef uint8_t out[HASH_SIZE]
        if not 1 <= len(digits) <= BLOCK_SIZE:
            raise ValueError(
                f"digits: expected 1 to {BLOCK_SIZE} bytes, got {len(digits)}"
            )
        self.write(
            <const uint8_t*> PyBytes_AS_STRING(digits), PyBytes_GET_SIZE(digits), out
        )
        return PyBytes_FromStringAndSize(<char*> out, HASH_SIZE)

    cdef void write(
        self, const uint8_t* digits, Py_ssize_t size, uint8_t* out
    ) noexcept:
        cdef uint64_t state[8]
        cdef uint8_t block[BLOCK_SIZE]
        memcpy(state, self.keyed, sizeof(state))
        memset(block, 0, BLOCK_SIZE)
        memcpy(block, digits, size)
        _compress(state, block, BLOCK_SIZE + size, True)
        memcpy(out, state, HASH_SIZE)
        memset(block, 0, BLOCK_SIZE)
