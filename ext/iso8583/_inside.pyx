# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: nonecheck=False, auto_pickle=False, autotestdict=False
"""What is inside fields: containers compiled for the wire, and the walk over one.

    positional   element | element | ...
    bitmap       bitmap | elements in order of number
    ber-tlv      [00 ...] tag | length | data | [00 ...] tag | ...
    tagged       leading parts | id | length prefix | data | id | ...

Rule 1: nothing is walked until somebody asks, and then no further than the element
        asked for.
Rule 2: `Container.next` is the only place that trusts nothing. What it let pass is
        inside its view, and the rest reads it without checking again.
Rule 3: no content goes into an error. Where things have gone out of step anything may
        stand in an id's place: one that the spec does not know is named only on the
        way to what it holds.
Rule 4: the elements of one field, at every depth, are counted and bounded.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.unicode cimport PyUnicode_GET_LENGTH
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

cimport cython

from iso8583._layout cimport Layout
from iso8583._path cimport Path, Step, place_of
from iso8583._wire cimport (
    DATA_BCD,
    DATA_SIGNED,
    FIELD_NUMBER_MAX,
    FRAME_SIZE_MAX,
    FieldPlan,
    data_size,
    first_nibble,
    hex_value,
    read_binary,
    read_prefix,
    read_text,
    text_length,
)

from iso8583 import inside as _spec
from iso8583.errors import DecodeError

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t length, Py_UCS4 character_max)
    uint8_t* PyUnicode_1BYTE_DATA(object text)

cdef enum:
    TAG_SIZE_MAX = 3
    LENGTH_SIZE_MAX = 4
    CONSTRUCTED = 0x20

assert _spec.ELEMENTS_MAX == ELEMENTS_MAX
assert _spec.TAG_SIZE_MAX == TAG_SIZE_MAX
assert _spec.LENGTH_SIZE_MAX == LENGTH_SIZE_MAX

cdef dict KINDS = {
    _spec.Positional: POSITIONAL,
    _spec.NestedBitmap: BITMAP,
    _spec.BerTlv: BER_TLV,
    _spec.Tagged: TAGGED,
}
cdef dict FORMS = {"bytes": FORM_BYTES, "digits": FORM_DIGITS, "hex": FORM_HEX}
cdef dict POLICIES = {"keep": KEEP, "skip": SKIP, "refuse": REFUSE}


cdef tuple compile_insides(Layout layout, object spec):
    containers = [None] * (FIELD_NUMBER_MAX + 1)
    for number in spec.fields:
        field = spec.field(number)
        if field.inside is not None:
            containers[number] = Container(layout, field, spec)
    return tuple(containers)


@cython.final
cdef class Element:
    def __cinit__(
        self, Layout layout not None, field, spec, str step not None,
        Py_ssize_t plain_prefix
    ):
        self.field = field
        self.step = step
        self.plain_prefix = plain_prefix
        layout.compile_field(&self.plan, field)
        if field.encoding not in ("bcd", "binary"):
            self.encoding = field.encoding
        if field.inside is not None:
            self.inside = Container(layout, field, spec)


@cython.final
cdef class Container:
    def __cinit__(self, Layout layout not None, field, spec, bint is_template=False):
        self.compile(layout, field, spec)
        if is_template:
            self.form = FORM_BYTES
        elif self.kind == BER_TLV and self.form == FORM_HEX:
            # Hex digits stand for the outermost bytes only.
            self.template = Container(layout, field, spec, True)

    def __dealloc__(self):
        PyMem_Free(self.keys)
        PyMem_Free(self.plans)

    cdef int compile(self, Layout layout, object field, object spec) except -1:
        inside = field.inside
        found = _spec.elements(field, spec)
        self.kind = KINDS[type(inside)]
        self.form = FORMS[found.form]
        self.strict = inside.strict
        self.unknown = REFUSE if self.kind == BITMAP else POLICIES[inside.unknown]
        if self.kind == BITMAP:
            self.bits = inside.size * 8
            self.bitmap_size = inside.size * (2 if inside.encoding == "hex" else 1)
        elif self.kind == POSITIONAL:
            self.open_end = inside.open_end
            self.required = (
                len(found.known) if inside.required is None else inside.required
            )
        elif self.kind == TAGGED:
            self.id_size = inside.id_size
            self.leading_count = len(found.leading)
            self.leading_optional = inside.leading_optional
            if found.id_encoding not in ("bcd", "binary"):
                layout.keep_tables(
                    found.id_encoding, &self.id_to_ascii, &self.id_from_ascii
                )
        self.known_count = len(found.known)
        self.keys = <int64_t*> PyMem_Calloc(max(self.known_count, 1), sizeof(int64_t))
        self.plans = <const FieldPlan**> PyMem_Calloc(
            max(self.known_count + self.leading_count, 1), sizeof(FieldPlan*)
        )
        if self.keys == NULL or self.plans == NULL:
            raise MemoryError
        self.other = Element(layout, found.other, spec, "", self.plain(-1))
        self.looks_up = (
            self.unknown != KEEP or found.other.length < FRAME_SIZE_MAX
        )
        elements = []
        for index, each in enumerate([*found.known, *found.leading]):
            step = each.id.decode("latin-1")
            if index < self.known_count:
                if self.kind in (BER_TLV, TAGGED):
                    self.keys[<int> index] = int.from_bytes(each.id, "big")
                    step = self.id_text(self.keys[<int> index])
                else:
                    self.keys[<int> index] = int(each.id)
            element = Element(layout, each.field, spec, step, self.plain(index))
            elements.append(element)
            self.plans[<int> index] = &(<Element> element).plan
            self.looks_up |= each.field.length < FRAME_SIZE_MAX
        self.elements = tuple(elements)
        return 0

    # The size of the prefix that the plan of this element has for nobody but us.
    def plain(self, int index):
        if (
            self.kind == BER_TLV
            or (self.kind == POSITIONAL and index < 0)
            or (self.open_end and index == self.known_count - 1)
        ):
            return (_spec.PLAIN_PREFIX_DIGITS + 1) // 2
        return 0

    def encode(self, mapping, place):
        """A mapping of this container's elements as the value of its field."""
        from iso8583._write_inside import encode_inside

        return encode_inside(self, mapping, place)

    # ---- elements

    cdef int slot_of(self, int64_t key) noexcept:
        cdef int low = 0, high = self.known_count, middle
        if key < 0:
            return self.known_count - <int> key - 1
        while low < high:
            middle = (low + high) >> 1
            if self.keys[middle] < key:
                low = middle + 1
            else:
                high = middle
        if low < self.known_count and self.keys[low] == key:
            return low
        return SLOT_UNKNOWN

    cdef Element element_of(self, Item* item):
        if item.slot == SLOT_PENDING:
            item.slot = self.slot_of(item.key)
        return <Element> self.elements[item.slot] if item.slot >= 0 else self.other

    cdef Container inside_of(self, Element element, int64_t key):
        if element.inside is not None or self.kind != BER_TLV:
            return element.inside
        while key > 0xFF:
            key >>= 8
        if not key & CONSTRUCTED:
            return None
        return self if self.template is None else self.template

    cdef bint key_of(self, const Step* step, int64_t* key) noexcept:
        cdef Py_ssize_t index
        cdef uint8_t digit
        cdef int64_t number = 0
        if self.kind == POSITIONAL or self.kind == BITMAP:
            if step.size == 4 and memcmp(step.text, b"rest", 4) == 0:
                key[0] = REST_KEY
                return self.kind == POSITIONAL
            if not 1 <= step.size <= 4 or step.text[0] == c'0':
                return False
            for index in range(step.size):
                digit = step.text[index] - c'0'
                if digit > 9:
                    return False
                number = number * 10 + digit
        elif self.id_from_ascii != NULL and step.size == self.id_size:
            for index in range(step.size):
                if not is_id_character(step.text[index]):
                    return False
                number = number << 8 | self.id_from_ascii[step.text[index]]
        elif (
            self.id_from_ascii == NULL
            and not step.size & 1
            and (
                step.size == 2 * self.id_size
                or (self.kind == BER_TLV and 2 <= step.size <= 2 * TAG_SIZE_MAX)
            )
        ):
            for index in range(step.size):
                digit = hex_value(step.text[index])
                if digit > 15:
                    return False
                number = number << 4 | digit
        else:
            return self.leading_key_of(step, key)
        key[0] = number
        return True

    cdef bint leading_key_of(self, const Step* step, int64_t* key) noexcept:
        cdef Element element
        cdef int index
        for index in range(self.leading_count):
            element = <Element> self.elements[self.known_count + index]
            if PyUnicode_GET_LENGTH(element.step) == step.size and memcmp(
                PyUnicode_1BYTE_DATA(element.step), step.text, step.size
            ) == 0:
                key[0] = -1 - index
                return True
        return False

    cdef str step_of(self, const Item* item):
        if item.slot >= 0:
            return (<Element> self.elements[item.slot]).step
        if self.kind == POSITIONAL:
            return _spec.REST
        return self.id_text(item.key)

    cdef str id_text(self, int64_t key):
        cdef Py_ssize_t size = self.id_size
        cdef Py_ssize_t index
        if self.kind == BER_TLV:
            size = 1 if key <= 0xFF else 2 if key <= 0xFFFF else 3
        if self.id_to_ascii == NULL:
            return f"{key:0{2 * size}X}"
        cdef object text = PyUnicode_New(size, 127)
        for index in range(size):
            PyUnicode_1BYTE_DATA(text)[index] = self.id_to_ascii[
                key >> 8 * (size - 1 - index) & 0xFF
            ]
        return text

    # ---- the walk

    cdef int next(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept:
        cdef int status
        while True:
            if self.kind == BER_TLV:
                status = self.next_tag(view, cursor, item, fault)
            elif self.kind == TAGGED:
                status = self.next_tagged(view, cursor, item, fault)
            elif self.kind == BITMAP:
                status = self.next_of_bitmap(view, cursor, item, fault)
            else:
                status = self.next_positional(view, cursor, item, fault)
            if status <= 0:
                return status
            cursor.left[0] -= 1
            if cursor.left[0] < 0:
                return fail(fault, INSIDE_TOO_MANY, item.start, ELEMENTS_MAX, 0)
            if item.slot != SLOT_UNKNOWN or self.unknown == KEEP:
                return 1
            if self.unknown == REFUSE:
                return fail(fault, INSIDE_ID_UNKNOWN, item.start, 0, 0)

    cdef int next_positional(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept:
        cdef Py_ssize_t at = cursor.at, left = view.size - at
        cdef const FieldPlan* plan
        item.start = at
        if cursor.position >= self.known_count:
            if not left or self.unknown == SKIP:
                return 0
            if self.unknown == REFUSE:
                return fail(fault, INSIDE_TRAILING, at, 0, left)
            item.key = REST_KEY
            item.slot = SLOT_UNKNOWN
            return take_rest(view, cursor, item)
        if not left:
            if cursor.position < self.required:
                return fail(
                    fault, INSIDE_MISSING, at, self.required, cursor.position
                )
            return 0
        item.slot = cursor.position
        cursor.position += 1
        item.key = cursor.position
        plan = self.plans[item.slot]
        if not self.open_end or cursor.position < self.known_count:
            return take_prefixed(plan, view, cursor, item, fault)
        if left > plan.length:
            fault.slot = item.slot
            return fail(fault, INSIDE_OVERLONG, at, plan.length, left)
        return take_rest(view, cursor, item)

    cdef int next_of_bitmap(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept:
        cdef int number
        cdef Py_ssize_t index
        cdef bint is_hex = self.bitmap_size * 8 > self.bits
        if cursor.at == 0:
            if view.size < self.bitmap_size:
                return fail(
                    fault, INSIDE_BITMAP_TRUNCATED, 0, self.bitmap_size, view.size
                )
            if is_hex:
                for index in range(self.bitmap_size):
                    if hex_value(view.data[index]) > 15:
                        return fail(
                            fault, INSIDE_BITMAP_HEX, index, self.bitmap_size, 0
                        )
            cursor.at = self.bitmap_size
        for number in range(cursor.position + 1, self.bits + 1):
            if not bit_is_set(view.data, is_hex, number):
                continue
            cursor.position = number
            item.start = cursor.at
            item.key = number
            item.slot = self.slot_of(number)
            if item.slot < 0:
                return fail(fault, INSIDE_BIT_UNDEFINED, cursor.at, number, 0)
            return take_prefixed(self.plans[item.slot], view, cursor, item, fault)
        cursor.position = self.bits
        if cursor.at != view.size:
            return fail(
                fault, INSIDE_TRAILING, cursor.at, 0, view.size - cursor.at
            )
        return 0

    # -- EMV 4.3 book 3, annex B
    cdef int next_tag(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept:
        cdef const uint8_t* data = view.data
        cdef Py_ssize_t at = cursor.at, size = view.size, length_size
        cdef uint32_t tag, count
        while at < size and data[at] == 0:
            at += 1
        if at == size:
            cursor.at = at
            return 0
        item.start = at
        tag = data[at]
        at += 1
        if tag & 0x1F == 0x1F:
            while True:
                if at - item.start == TAG_SIZE_MAX:
                    return fail(
                        fault, INSIDE_ID_OVERLONG, item.start, TAG_SIZE_MAX, 0
                    )
                if at == size:
                    return fail(
                        fault, INSIDE_ID_TRUNCATED, item.start,
                        at - item.start + 1, at - item.start,
                    )
                tag = tag << 8 | data[at]
                at += 1
                if not data[at - 1] & 0x80:
                    break
        item.key = tag
        item.slot = self.slot_of(tag) if self.looks_up else SLOT_PENDING
        fault.slot = item.slot
        if at == size:
            return fail(fault, INSIDE_PREFIX_TRUNCATED, at, 1, 0)
        count = data[at]
        at += 1
        if count & 0x80:
            length_size = count & 0x7F
            if not 1 <= length_size <= LENGTH_SIZE_MAX:
                return fail(
                    fault, INSIDE_LENGTH_FORM, at - 1, LENGTH_SIZE_MAX, length_size
                )
            if length_size > size - at:
                return fail(
                    fault, INSIDE_PREFIX_TRUNCATED, at, length_size, size - at
                )
            count = read_binary(data + at, length_size)
            at += length_size
        return self.take_counted(view, cursor, item, at, count, fault)

    cdef int next_tagged(
        self, const View* view, Cursor* cursor, Item* item, InsideFault* fault
    ) noexcept:
        cdef const uint8_t* data = view.data
        cdef const FieldPlan* plan = &self.other.plan
        cdef Py_ssize_t at = cursor.at, left = view.size - at, count, index
        if cursor.position < self.leading_count:
            item.start = at
            if self.leading_optional and (not left or self.is_digit(data[at])):
                cursor.position = self.leading_count
            elif not left:
                return fail(
                    fault, INSIDE_MISSING, at, self.leading_count, cursor.position
                )
            else:
                item.slot = self.known_count + cursor.position
                cursor.position += 1
                item.key = -cursor.position
                return take_prefixed(
                    self.plans[item.slot], view, cursor, item, fault
                )
        if not left:
            return 0
        item.start = at
        if left < self.id_size:
            return fail(fault, INSIDE_ID_TRUNCATED, at, self.id_size, left)
        if self.id_to_ascii != NULL:
            for index in range(self.id_size):
                if not is_id_character(self.id_to_ascii[data[at + index]]):
                    return fail(fault, INSIDE_ID_CHARACTERS, at + index, 0, 0)
        item.key = read_binary(data + at, self.id_size)
        item.slot = self.slot_of(item.key)
        fault.slot = item.slot
        at += self.id_size
        left -= self.id_size
        if left < plan.prefix_size:
            return fail(
                fault, INSIDE_PREFIX_TRUNCATED, at, plan.prefix_size, left
            )
        count = read_prefix(plan, data + at)
        if count < 0:
            return fail(fault, INSIDE_PREFIX_DIGITS, at, plan.prefix_size, 0)
        return self.take_counted(
            view, cursor, item, at + plan.prefix_size, count, fault
        )

    cdef bint is_digit(self, uint8_t byte) noexcept:
        if self.id_to_ascii != NULL:
            byte = self.id_to_ascii[byte]
        return c'0' <= byte <= c'9'

    # The data of an element whose length has been read.
    cdef int take_counted(
        self, const View* view, Cursor* cursor, Item* item, Py_ssize_t at,
        Py_ssize_t count, InsideFault* fault
    ) noexcept:
        cdef const FieldPlan* plan = (
            self.plans[item.slot] if item.slot >= 0 else &self.other.plan
        )
        cdef Py_ssize_t wanted
        if count > plan.length:
            return fail(fault, INSIDE_OVERLONG, at, plan.length, count)
        wanted = data_size(plan, count)
        if wanted > view.size - at:
            return fail(fault, INSIDE_TRUNCATED, at, wanted, view.size - at)
        item.data = at
        item.count = count
        item.end = cursor.at = at + wanted
        return 1

    # ---- views

    cdef object open(
        self, const FieldPlan* plan, const uint8_t* data, Py_ssize_t count,
        const View* outer, Py_ssize_t at, View* view, object place
    ):
        cdef Py_ssize_t size = data_size(plan, count), length, index
        cdef uint8_t* out
        cdef uint8_t high, low
        cdef bytes buffer
        cdef Py_ssize_t origin = outer.origin + outer.scale * at
        cdef Py_ssize_t scale = outer.scale
        if self.form == FORM_BYTES:
            view.data = data
            view.size = size
            view.origin = origin
            view.scale = scale
            return None
        if self.form == FORM_DIGITS:
            length = text_length(plan, count)
            buffer = PyBytes_FromStringAndSize(NULL, length)
            out = <uint8_t*> PyBytes_AS_STRING(buffer)
            if read_text(plan, data, count, out) < 0:
                decode_content(plan, None, place, origin >> 1, data, count)
            view.origin = origin + (scale >> 1) * first_nibble(plan, data, count)
            view.scale = scale >> 1
        else:
            length = size >> 1
            buffer = PyBytes_FromStringAndSize(NULL, length)
            out = <uint8_t*> PyBytes_AS_STRING(buffer)
            for index in range(length):
                high = hex_value(plan.to_ascii[data[2 * index]])
                low = hex_value(plan.to_ascii[data[2 * index + 1]])
                if high > 15 or low > 15:
                    raise DecodeError(
                        place, (origin + scale * 2 * index) >> 1,
                        "hex digits", "another character",
                    )
                out[index] = <uint8_t> (high << 4 | low)
            if size & 1:
                raise DecodeError(
                    place, origin >> 1, "an even number of hex digits", f"{size}"
                )
            view.origin = origin
            view.scale = scale << 1
        view.data = out
        view.size = length
        return buffer

    cdef object closed(self, bytes data):
        if self.form == FORM_BYTES:
            return data
        if self.form == FORM_HEX:
            return data.hex().upper()
        return data.decode("ascii", "replace")

    # ---- reading

    cdef bint find(
        self, const View* view, const Step* step, int64_t key, int* left, Item* item,
        const Path* path, int level
    ) except -1:
        cdef Cursor cursor
        cdef InsideFault fault
        cdef int status, seen = 0
        cursor.at = 0
        cursor.position = 0
        cursor.left = left
        while True:
            fault.slot = SLOT_UNKNOWN
            status = self.next(view, &cursor, item, &fault)
            if status < 0:
                raise self.fault_error(view, &fault, item.key, place_of(path, level))
            if status == 0:
                return False
            if item.key == key:
                seen += 1
                if seen == step.occurrence:
                    return True

    cdef object fault_error(
        self, const View* view, const InsideFault* fault, int64_t key, object place
    ):
        cdef int slot = fault.slot
        expected, got = fault_texts(self, fault)
        if slot == SLOT_PENDING:
            slot = self.slot_of(key)
        if slot >= 0:
            place = f"{place}.{(<Element> self.elements[slot]).step}"
        return DecodeError(place, offset_in_frame(view, fault.at), expected, got)


# ---- helpers of the walk

cdef inline int fail(
    InsideFault* fault, InsideFaultKind kind, Py_ssize_t at,
    Py_ssize_t expected, Py_ssize_t got
) noexcept nogil:
    fault.kind = kind
    fault.at = at
    fault.expected = expected
    fault.got = got
    return -1


# An element with the plan's own prefix, or of its exact length.
cdef inline int take_prefixed(
    const FieldPlan* plan, const View* view, Cursor* cursor, Item* item,
    InsideFault* fault
) noexcept nogil:
    cdef Py_ssize_t at = cursor.at, left = view.size - at, wanted
    cdef Py_ssize_t count = plan.length
    fault.slot = item.slot
    if plan.prefix_size:
        if left < plan.prefix_size:
            return fail(fault, INSIDE_PREFIX_TRUNCATED, at, plan.prefix_size, left)
        count = read_prefix(plan, view.data + at)
        if count < 0:
            return fail(fault, INSIDE_PREFIX_DIGITS, at, plan.prefix_size, 0)
        if count > plan.length:
            return fail(fault, INSIDE_OVERLONG, at, plan.length, count)
        at += plan.prefix_size
        left -= plan.prefix_size
    wanted = data_size(plan, count)
    if wanted > left:
        return fail(fault, INSIDE_TRUNCATED, at, wanted, left)
    item.data = at
    item.count = count
    item.end = cursor.at = at + wanted
    return 1


# Everything that is left, as an element that counts its bytes.
cdef inline int take_rest(const View* view, Cursor* cursor, Item* item) noexcept nogil:
    item.data = cursor.at
    item.count = view.size - cursor.at
    item.end = cursor.at = view.size
    return 1


cdef inline bint bit_is_set(
    const uint8_t* bitmap, bint is_hex, int number
) noexcept nogil:
    cdef int index = number - 1
    if is_hex:
        return hex_value(bitmap[index >> 2]) >> (3 - (index & 3)) & 1
    return bitmap[index >> 3] >> (7 - (index & 7)) & 1


# What may be part of an id: paths have "." and "#" for themselves.
cdef inline bint is_id_character(uint8_t character) noexcept nogil:
    return 0x20 < character < 0x7F and character != c'.' and character != c'#'


# What was expected, and what came.
cdef dict FAULTS = {
    INSIDE_TOO_MANY: ("at most {expected} elements in a field", "more"),
    INSIDE_ID_TRUNCATED: ("{id} of {expected} {unit}", "{got}"),
    INSIDE_ID_OVERLONG: ("{id} of at most {expected} {unit}", "more"),
    INSIDE_ID_CHARACTERS: ("an id of printable characters, not . or #", "another"),
    INSIDE_ID_UNKNOWN: ("{id} of the spec", "an unknown one"),
    INSIDE_LENGTH_FORM: ("a length of 1 to {expected} bytes", "{got}"),
    INSIDE_PREFIX_TRUNCATED: ("a length of {expected} {unit}", "{got}"),
    INSIDE_PREFIX_DIGITS: ("a length of digits", "another character"),
    INSIDE_OVERLONG: ("a length of at most {expected}", "{got}"),
    INSIDE_TRUNCATED: ("{expected} {unit} of data", "{got}"),
    INSIDE_MISSING: ("at least {expected} elements", "{got}"),
    INSIDE_TRAILING: ("the end", "{got} more {unit}"),
    INSIDE_BITMAP_TRUNCATED: ("a bitmap of {expected} {unit}", "{got}"),
    INSIDE_BITMAP_HEX: ("a bitmap of {expected} hex digits", "another character"),
    INSIDE_BIT_UNDEFINED: ("an element of the spec", "an undefined one, {expected}"),
}


cdef list fault_texts(Container container, const InsideFault* fault):
    values = {
        "id": "a tag" if container.kind == BER_TLV else "an id",
        "unit": "characters" if container.form == FORM_DIGITS else "bytes",
        "expected": fault.expected,
        "got": fault.got,
    }
    return [text.format(**values) for text in FAULTS[fault.kind]]


cdef Py_ssize_t offset_in_frame(const View* view, Py_ssize_t at) noexcept:
    return (view.origin + view.scale * at) >> 1


cdef object decode_content(
    const FieldPlan* plan, object encoding, object place, Py_ssize_t offset,
    const uint8_t* data, Py_ssize_t count
):
    if plan.data_form == DATA_BCD:
        raise DecodeError(
            place, offset, f"pad nibble {plan.pad_nibble:X}", "another"
        )
    if plan.data_form == DATA_SIGNED:
        raise DecodeError(place, offset, "C or D and digits", "another character")
    try:
        return (<const char*> data)[:count].decode(encoding)
    except UnicodeError as error:
        # Most say where; a few of Python's codecs do not.
        raise DecodeError(
            place, offset + getattr(error, "start", 0),
            f"text in {encoding}", "another byte",
        ) from None
