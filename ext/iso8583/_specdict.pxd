# cython: language_level=3
# What a spec dictionary of pyiso8583's interface says, compiled field by field, and
# whether it still says so: see _specdict.pyx.

from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from iso8583._wire cimport FieldPlan

cdef extern from *:
    """
    /* -- PEP 509: until Python 3.12 a dictionary has a version, which is like that of
       no other dictionary and of no other state of its own. */
    #if PY_VERSION_HEX < 0x030C0000
    #define DICT_HAS_VERSION 1
    #define DICT_VERSION(dict) (((PyDictObject *)(dict))->ma_version_tag)
    #else
    #define DICT_HAS_VERSION 0
    #define DICT_VERSION(dict) ((void)(dict), (uint64_t)0)
    #endif
    """
    const bint DICT_HAS_VERSION
    uint64_t DICT_VERSION(PyObject* dictionary) noexcept

cdef enum:
    # Primary, secondary and tertiary bitmap.
    DOCUMENT_FIELD_MAX = 192
    # Keys by number: the parts that are no fields stand where no field does.
    PRIMARY = 0
    SECONDARY = 1
    HEADER = DOCUMENT_FIELD_MAX + 1
    TYPE = DOCUMENT_FIELD_MAX + 2
    KEY_COUNT = DOCUMENT_FIELD_MAX + 3
    # data_enc, len_enc, len_type, max_len, desc, len_count, left_pad, right_pad
    PROPERTIES_MAX = 8
    # Bytes of a length prefix.
    PREFIX_MAX = 6

cdef struct Property:
    PyObject* name
    PyObject* value

cdef struct FieldEntry:
    FieldPlan plan
    # The most that a length prefix can say of what is written.
    uint32_t count_max
    # For the plain code to read: something about it is out of the ordinary.
    bint is_irregular
    # A header that the spec says is not there.
    bint is_absent
    # Of the spec, when `properties` was found in it, and of `properties`.
    uint64_t spec_version
    uint64_t version
    # Borrowed from the spec, and looked at only while its version is that one.
    PyObject* properties
    # What `properties` had when it was compiled: references that are held.
    int property_count
    Property seen[PROPERTIES_MAX]


cdef class SpecPlans:
    cdef void* spec
    cdef FieldEntry* entries[KEY_COUNT]

    cdef FieldEntry* look(self, dict spec, int number) except? NULL
    cdef int replace(self, int number, dict properties) except -1


cdef SpecPlans plans_of(dict spec)


# The field's entry, as its dictionary stands now; NULL when it is for the plain code.
# It may change whenever Python code runs, so callers copy what they need of it.
cdef inline FieldEntry* entry_of(
    SpecPlans plans, dict spec, int number
) except? NULL:
    cdef FieldEntry* entry = plans.entries[number]
    if (
        DICT_HAS_VERSION
        and entry != NULL
        and entry.spec_version == DICT_VERSION(<PyObject*> spec)
        and entry.version == DICT_VERSION(entry.properties)
    ):
        return NULL if entry.is_irregular else entry
    return plans.look(spec, number)
