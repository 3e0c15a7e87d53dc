# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
"""Spec dictionaries of pyiso8583's interface, compiled for the wire.

Their owners edit them in place between calls, and no edit may be missed:

Rule 1: what was compiled is used only while the field's dictionary has the very same
        keys and values, in the same order. They are strings and numbers, which cannot
        change, and are held, so that no other can come to have their address. Before
        Python 3.12 a dictionary's version says the same at once.
Rule 2: which spec it is decides nothing: it only finds what was compiled last time.
Rule 3: a field that has anything out of the ordinary is irregular. The plain code
        reads it, and finds out what is wrong with it if anything is.
"""

from cpython.dict cimport PyDict_CheckExact, PyDict_GetItemWithError, PyDict_Next
from cpython.long cimport PyLong_CheckExact
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memset

cimport cython

from iso8583._wire cimport (
    DATA_BCD,
    DATA_BINARY,
    DATA_TEXT,
    PREFIX_BCD,
    PREFIX_BINARY,
    PREFIX_NONE,
    PREFIX_TEXT,
    FieldPlan,
)

import codecs
import sys

from iso8583.spec import text_tables

cdef extern from "Python.h":
    Py_ssize_t PyDict_GET_SIZE(PyObject* dictionary)

cdef enum:
    SPECS_MAX = 8
    LENGTH_MAX = 0xFFFF
    PREFIX_PACKED_MAX = 4
    # No nibble is like it, so an odd count is for the plain code.
    NO_PAD = 16

cdef uint64_t NEVER = ~(<uint64_t> 0)
cdef const char* HEX_NIBBLES = b"0123456789ABCDEF"
cdef bytes ASCII = bytes(range(128))

cdef tuple KEYS = ("p", *map(str, range(1, DOCUMENT_FIELD_MAX + 1)), "h", "t")

# What was compiled of the specs used last, the latest first: a few, so that programs
# that make specs all the time do not keep them all.
cdef list _recent = [SpecPlans()]

# Tables by the codec's module: never forgotten, since plans point into them, and no
# more of them than Python has codecs.
cdef dict _tables = {}

# Off: dictionaries are compared as where they have no versions.
cdef bint _by_version = DICT_HAS_VERSION


def trust_versions(bint wanted):
    """Whether a dictionary's version may say that it is unchanged. For tests."""
    global _by_version
    _by_version = wanted and DICT_HAS_VERSION
    _recent[:] = [SpecPlans()]


cdef SpecPlans plans_of(dict spec):
    cdef SpecPlans plans = <SpecPlans> _recent[0]
    if plans.spec == <void*> spec:
        return plans
    for plans in _recent:
        if plans.spec == <void*> spec:
            _recent.remove(plans)
            break
    else:
        plans = SpecPlans()
        plans.spec = <void*> spec
        del _recent[SPECS_MAX - 1:]
    _recent.insert(0, plans)
    return plans


@cython.final
cdef class SpecPlans:
    def __dealloc__(self):
        cdef int number
        for number in range(KEY_COUNT):
            if self.entries[number] != NULL:
                release(self.entries[number])
                PyMem_Free(self.entries[number])

    cdef FieldEntry* look(self, dict spec, int number) except? NULL:
        cdef FieldEntry* entry = self.entries[number]
        # Before looking, so that an edit meanwhile is seen the next time.
        cdef uint64_t spec_version = DICT_VERSION(<PyObject*> spec)
        cdef PyObject* found = PyDict_GetItemWithError(spec, KEYS[number])
        if found == NULL or not PyDict_CheckExact(<object> found):
            return NULL
        cdef dict properties = <dict> found
        cdef uint64_t version = DICT_VERSION(<PyObject*> properties)
        if entry == NULL or not is_unchanged(entry, <PyObject*> properties):
            self.replace(number, properties)
            entry = self.entries[number]
        entry.properties = <PyObject*> properties
        entry.version = version
        entry.spec_version = spec_version if _by_version else NEVER
        return NULL if entry.is_irregular else entry

    cdef int replace(self, int number, dict properties) except -1:
        cdef FieldEntry fresh, old
        memset(&fresh, 0, sizeof(FieldEntry))
        fresh.is_irregular = not remember(&fresh, properties)
        try:
            if not fresh.is_irregular:
                fresh.is_irregular = not compile_entry(&fresh, number, properties)
            if self.entries[number] == NULL:
                self.entries[number] = <FieldEntry*> PyMem_Calloc(
                    1, sizeof(FieldEntry)
                )
                if self.entries[number] == NULL:
                    raise MemoryError
        except BaseException:
            release(&fresh)
            raise
        old = self.entries[number][0]
        self.entries[number][0] = fresh
        # Last: what is let go may run code of its own.
        release(&old)
        return 0


cdef void release(FieldEntry* entry) noexcept:
    cdef int index
    for index in range(entry.property_count):
        Py_XDECREF(entry.seen[index].name)
        Py_XDECREF(entry.seen[index].value)


# Holds the dictionary's keys and values; False when it cannot be compared by them.
cdef bint remember(FieldEntry* entry, dict properties):
    cdef PyObject* name
    cdef PyObject* value
    cdef Py_ssize_t position = 0
    if PyDict_GET_SIZE(<PyObject*> properties) > PROPERTIES_MAX:
        return False
    while PyDict_Next(properties, &position, &name, &value):
        if not PyUnicode_CheckExact(<object> name):
            return False
        Py_INCREF(<object> name)
        Py_INCREF(<object> value)
        entry.seen[entry.property_count].name = name
        entry.seen[entry.property_count].value = value
        entry.property_count += 1
    return True


cdef bint is_unchanged(const FieldEntry* entry, PyObject* properties) noexcept:
    cdef PyObject* name
    cdef PyObject* value
    cdef Py_ssize_t position = 0
    cdef int index = 0
    if PyDict_GET_SIZE(properties) != entry.property_count:
        return False
    while PyDict_Next(<object> properties, &position, &name, &value):
        if name != entry.seen[index].name or value != entry.seen[index].value:
            return False
        index += 1
    return True


# False when the field is not one that is read and written natively. Whatever decides
# is a str or an int and nothing derived from them: those cannot change.
cdef bint compile_entry(FieldEntry* entry, int number, dict properties) except -1:
    cdef FieldPlan* plan = &entry.plan
    encoding = properties.get("data_enc")
    length = properties.get("max_len")
    if number == HEADER and PyLong_CheckExact(length) and length <= 0:
        entry.is_absent = True
        return True
    if not PyUnicode_CheckExact(encoding):
        return False
    plan.nibble_to_ascii = <const uint8_t*> HEX_NIBBLES
    plan.counts_per_byte = 1
    plan.prefix_form = PREFIX_NONE
    if encoding == "b":
        plan.data_form = DATA_BINARY
    else:
        plan.data_form = DATA_TEXT
        if not find_tables(encoding, &plan.to_ascii, &plan.from_ascii):
            return False
        # All of it: some encodings write a few characters with a byte of their own.
        plan.is_ascii = memcmp(plan.from_ascii, <const char*> ASCII, 128) == 0
    if number in (PRIMARY, SECONDARY, TYPE):
        # Their lengths are the standard's, whatever the spec says.
        plan.length = 4 if number == TYPE else 16
        if plan.data_form == DATA_BINARY:
            plan.length //= 2
        return True
    if not PyLong_CheckExact(length) or not 0 <= length <= LENGTH_MAX:
        return False
    plan.length = length
    return compile_units(plan, properties) and compile_prefix(entry, properties)


cdef bint compile_units(FieldPlan* plan, dict properties) except -1:
    unit = properties.get("len_count", "bytes")
    if not PyUnicode_CheckExact(unit):
        return False
    if unit != "nibbles":
        return True
    if plan.data_form == DATA_TEXT:
        return False
    plan.data_form = DATA_BCD
    plan.counts_per_byte = 2
    left, right = properties.get("left_pad", ""), properties.get("right_pad", "")
    if not (PyUnicode_CheckExact(left) and PyUnicode_CheckExact(right)):
        return False
    # With both, each is tried on what comes.
    if left and right:
        return False
    pad = left[:1] or right[:1]
    if pad and pad not in "0123456789ABCDEF":
        return False
    plan.pads_left = bool(left)
    plan.pad_nibble = int(pad, 16) if pad else NO_PAD
    return True


cdef bint compile_prefix(FieldEntry* entry, dict properties) except -1:
    cdef FieldPlan* plan = &entry.plan
    size = properties.get("len_type")
    if not PyLong_CheckExact(size) or not 0 <= size <= PREFIX_MAX:
        return False
    plan.prefix_size = size
    entry.count_max = plan.length
    if size == 0:
        return True
    encoding = properties.get("len_enc")
    if not PyUnicode_CheckExact(encoding):
        return False
    if encoding == "b":
        plan.prefix_form = PREFIX_BINARY
        said_max = 256**size - 1
    elif encoding == "bcd":
        plan.prefix_form = PREFIX_BCD
        said_max = 100**size - 1
    else:
        plan.prefix_form = PREFIX_TEXT
        said_max = 10**size - 1
        return find_zero(encoding, &plan.prefix_zero) and set_count_max(
            entry, said_max
        )
    return size <= PREFIX_PACKED_MAX and set_count_max(entry, said_max)


cdef bint set_count_max(FieldEntry* entry, object said_max) except -1:
    entry.count_max = min(entry.count_max, said_max)
    return True


# False for an encoding that has no such tables, or that may not be what it was: what
# is not Python's own can be another codec the next time.
cdef bint find_tables(
    str encoding, const uint8_t** to_ascii, const uint8_t** from_ascii
) except -1:
    cdef bytes table_to, table_from
    try:
        home = codecs.lookup(encoding).incrementaldecoder.__module__
    except Exception:
        return False
    if home not in _tables:
        tables = read_tables(home)
        if tables is None:
            return False
        _tables[home] = tables
    table_to, table_from = _tables[home]
    to_ascii[0] = <const uint8_t*> <const char*> table_to
    from_ascii[0] = <const uint8_t*> <const char*> table_from
    return True


cdef bint find_zero(str encoding, uint8_t* zero) except -1:
    cdef const uint8_t* to_ascii
    cdef const uint8_t* from_ascii
    if not find_tables(encoding, &to_ascii, &from_ascii):
        return False
    zero[0] = from_ascii[c'0']
    return True


# A byte a character and nothing before or after it matters: what has a table. Beyond
# ASCII every encoding is for the plain code, so UTF-8 is the same as ASCII.
cdef object read_tables(str home):
    package, _, name = home.rpartition(".")
    if package != "encodings":
        return None
    if name == "utf_8":
        name = "ascii"
    elif name not in ("ascii", "latin_1"):
        if not hasattr(sys.modules.get(home), "decoding_table"):
            return None
    try:
        tables = text_tables(name)
        return tables if tables[1].decode(name) == ASCII.decode("ascii") else None
    except ValueError:
        return None
