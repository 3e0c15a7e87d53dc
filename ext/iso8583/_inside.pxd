# What is inside fields: containers compiled for the wire, and the walk over one.

from libc.stdint cimport int64_t, uint8_t

from iso8583._layout cimport Layout
from iso8583._path cimport Path, Step
from iso8583._wire cimport FieldPlan


cdef enum:
    # Of iso8583.inside.
    ELEMENTS_MAX = 1024
    # Of a positional container: the key of what is behind its last element.
    REST_KEY = 0

cdef enum ContainerKind:
    POSITIONAL
    BITMAP
    BER_TLV
    TAGGED

# What a container is laid over (iso8583.inside.Form).
cdef enum ContainerForm:
    FORM_BYTES
    FORM_DIGITS
    FORM_HEX

cdef enum UnknownPolicy:
    KEEP
    SKIP
    REFUSE

cdef enum Slot:
    SLOT_UNKNOWN = -1
    # Nobody has looked yet.
    SLOT_PENDING = -2

cdef enum InsideFaultKind:
    INSIDE_TOO_MANY
    INSIDE_ID_TRUNCATED
    INSIDE_ID_OVERLONG
    INSIDE_ID_CHARACTERS
    INSIDE_ID_UNKNOWN
    INSIDE_LENGTH_FORM
    INSIDE_PREFIX_TRUNCATED
    INSIDE_PREFIX_DIGITS
    INSIDE_OVERLONG
    INSIDE_TRUNCATED
    INSIDE_MISSING
    INSIDE_TRAILING
    INSIDE_BITMAP_TRUNCATED
    INSIDE_BITMAP_HEX
    INSIDE_BIT_UNDEFINED

cdef struct InsideFault:
    InsideFaultKind kind
    Py_ssize_t at
    Py_ssize_t expected
    Py_ssize_t got
    # Of the element that it is in; SLOT_UNKNOWN when it is in none.
    int slot

# The bytes that a container is laid over, and where they are in the frame: the byte at
# `index` is at half of `origin + scale * index`. Half bytes, because digits are.
cdef struct View:
    const uint8_t* data
    Py_ssize_t size
    Py_ssize_t origin
    Py_ssize_t scale

cdef struct Cursor:
    Py_ssize_t at
    # The number of the last element that has one; how many leading ones were passed.
    int position
    # How many more elements the field may have, at every depth together.
    int* left

# One element as it lies in a view.
cdef struct Item:
    # The number, or the bytes of the tag or id as one; below 0 a leading part.
    int64_t key
    int slot
    Py_ssize_t start
    Py_ssize_t data
    # As its length says: characters, digits or bytes.
    Py_ssize_t count
    Py_ssize_t end

cdef class Element:
    cdef FieldPlan plan
    # Its step in a path; empty for those that no spec knows.
    cdef str step
    cdef object field
    # The Python codec of its text.
    cdef object encoding
    cdef Container inside
    # The size of a prefix that its plan has and the wire has not.
    cdef Py_ssize_t plain_prefix


cdef class Container:
    cdef ContainerKind kind
    cdef ContainerForm form
    cdef UnknownPolicy unknown
    cdef bint strict
    # Of a bitmap, on the wire; and how many bits it has.
    cdef Py_ssize_t bitmap_size
    cdef int bits
    cdef int required
    cdef bint open_end
    cdef Py_ssize_t id_size
    # NULL: ids are bytes, digits for whoever reads.
    cdef const uint8_t* id_to_ascii
    cdef const uint8_t* id_from_ascii
    cdef int leading_count
    cdef bint leading_optional
    # Known elements in order of key, then leading ones.
    cdef tuple elements
    cdef int known_count
    cdef int64_t* keys
    cdef const FieldPlan** plans
    cdef Element other
    # What is inside the templates of ber-tlv, where it is not this.
    cdef Container template
    # Whether a walk has to look every tag up.
    cdef bint looks_up

    cdef int compile(self, Layout layout, object field, object spec) except -1
    cdef int slot_of(self, int64_t key) noexcept
    # The element by its slot, which is filled in if nobody has looked it up yet.
    cdef Element element_of(self, Item* item)
    # What is inside this element: its own container, or of a template its parent's.
    cdef Container inside_of(self, Element element, int64_t key)
    # The key of a step; 0 when it cannot be one here, 1 when it can.
    cdef bint key_of(self, const Step* step, int64_t* key) noexcept
    cdef str step_of(self, const Item* item)
    # 1 with the next element; 0 at the end; -1 with a fault.
    cdef int next(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept
    cdef int next_positional(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept
    cdef int next_of_bitmap(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept
    cdef int next_tag(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept
    cdef int next_tagged(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept
    # Lays the container over data. Returns what owns the view's bytes, if it made any.
    cdef object open(
        self, const FieldPlan* plan, const uint8_t* data, Py_ssize_t count,
        const View* outer, Py_ssize_t at, View* view, object place
    )
    # Data as `open` gave it, as a value of the field around it.
    cdef object closed(self, bytes data)
    # Whether the element is there. Raises DecodeError for a fault before it.
    cdef bint find(
        self, const View* view, const Step* step, int64_t key, int* left, Item* item,
        const Path* path, int level
    ) except -1
    cdef object fault_error(
        self, const View* view, const InsideFault* fault, int64_t key, object place
    )
    cdef bint leading_key_of(self, const Step* step, int64_t* key) noexcept
    cdef str id_text(self, int64_t key)
    cdef bint is_digit(self, uint8_t byte) noexcept
    cdef int take_counted(
        self, const View* view, Cursor* cursor, Item* item, Py_ssize_t at,
        Py_ssize_t count, InsideFault* fault
    ) noexcept


# The Containers of a spec by field number, None where there is none.
cdef tuple compile_insides(Layout layout, object spec)
cdef Py_ssize_t offset_in_frame(const View* view, Py_ssize_t at) noexcept
# Text that is not ASCII, or packed digits with another pad nibble. Raises DecodeError.
cdef object decode_content(
    const FieldPlan* plan, object encoding, object place, Py_ssize_t offset,
    const uint8_t* data, Py_ssize_t count
)
