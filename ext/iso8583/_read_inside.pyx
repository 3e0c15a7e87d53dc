# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: nonecheck=False, auto_pickle=False, autotestdict=False
"""Reading what is inside the fields of one frame: by path, or all of it.

A path is walked level by level, in each container up to the element asked for. The
frame's own field is the outermost level: its table has said where its data is.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

cimport cython

from iso8583._inside cimport (
    ELEMENTS_MAX,
    FORM_BYTES,
    SLOT_UNKNOWN,
    Container,
    Cursor,
    Element,
    InsideFault,
    Item,
    View,
    decode_content,
    offset_in_frame,
)
from iso8583._layout cimport Layout
from iso8583._path cimport DEPTH_MAX, Path, parse_path, place_of
from iso8583._wire cimport (
    BITMAPS_MAX,
    DATA_BCD,
    DATA_BINARY,
    FieldPlan,
    FieldTable,
    field_bit,
    first_nibble,
    leading_zeros,
    read_content,
    read_text,
    table_has,
    table_rank,
    text_length,
)

from iso8583 import inside as _spec
from iso8583.errors import DecodeError

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t length, Py_UCS4 character_max)
    uint8_t* PyUnicode_1BYTE_DATA(object text)

cdef extern from *:
    # Room for this many from the start, where Python can.
    dict __Pyx_PyDict_NewPresized(Py_ssize_t count)

cdef enum:
    # Text up to here is checked without an object made of it.
    SCRATCH_SIZE = 1024


# A field's data in its frame, which the table says is there; what its prefix says.
cdef inline Py_ssize_t locate(
    const FieldPlan* plan, bytes frame, const FieldTable* table, int field,
    View* view, Py_ssize_t* at
) noexcept:
    view.data = <const uint8_t*> PyBytes_AS_STRING(frame)
    view.size = PyBytes_GET_SIZE(frame)
    view.origin = 0
    view.scale = 2
    at[0] = table.starts[table_rank(table, field)]
    cdef const uint8_t* data = NULL
    cdef Py_ssize_t count = read_content(plan, view.data + at[0], &data)
    at[0] = data - view.data
    return count


cdef object open_field(
    Layout layout, bytes frame, const FieldTable* table, int field, View* view
):
    cdef const FieldPlan* plan = &layout.plans[field]
    cdef Container container = <Container> layout.insides[field]
    cdef View whole
    cdef Py_ssize_t at
    cdef Py_ssize_t count = locate(plan, frame, table, field, &whole, &at)
    return container.open(plan, whole.data + at, count, &whole, at, view, field)


# An element's value where it is ASCII text, as nearly all are; None where it is not.
cdef object ascii_text(Element element, const View* view, const Item* item):
    cdef const FieldPlan* plan = &element.plan
    text = PyUnicode_New(text_length(plan, item.count), 127)
    if read_text(
        plan, view.data + item.data, item.count, PyUnicode_1BYTE_DATA(text)
    ) < 0:
        return None
    return text


# And where it is not. Raises DecodeError.
cdef object other_text(
    Element element, const View* view, const Item* item, object place
):
    return decode_content(
        &element.plan, element.encoding, place, offset_in_frame(view, item.data),
        view.data + item.data, item.count,
    )


# ---- by path

cdef struct Found:
    # Borrowed from the layout; NULL when there is no such element.
    PyObject* container
    View view
    Item item


# Returns what owns the view's bytes, if the frame does not.
cdef object find_path(
    Layout layout, bytes frame, const FieldTable* table, const Path* path, Found* found
):
    cdef Container container
    cdef Element element
    cdef View* view = &found.view
    cdef Item* item = &found.item
    cdef int64_t key
    cdef int left = ELEMENTS_MAX, level = 0
    found.container = NULL
    if not table_has(table, path.field) or layout.insides[path.field] is None:
        return None
    container = <Container> layout.insides[path.field]
    owner = open_field(layout, frame, table, path.field, view)
    while True:
        if not container.key_of(&path.steps[level], &key):
            return None
        if not container.find(
            view, &path.steps[level], key, &left, item, path, level
        ):
            return None
        level += 1
        if level == path.count:
            found.container = <PyObject*> container
            return owner
        element = container.element_of(item)
        container = container.inside_of(element, item.key)
        if container is None:
            return None
        inner = container.open(
            &element.plan, view.data + item.data, item.count, view, item.data, view,
            None if container.form == FORM_BYTES else place_of(path, level),
        )
        # Bytes that the new view took over as they are still have their owner.
        owner = owner if inner is None else inner


cdef object read_at(
    Layout layout, bytes frame, const FieldTable* table, object text, object absent
):
    cdef Path path
    cdef Found found
    cdef Element element
    text = in_field(layout, frame, table, text)
    if not parse_path(text, &path):
        return absent
    if path.count == 0:
        if not table_has(table, path.field):
            return absent
        return field_text(layout, frame, table, path.field)
    _owner = find_path(layout, frame, table, &path, &found)
    if found.container == NULL:
        return absent
    element = (<Container> found.container).element_of(&found.item)
    value = ascii_text(element, &found.view, &found.item)
    if value is None:
        place = place_of(&path, path.count)
        value = other_text(element, &found.view, &found.item, place)
    return value


cdef bint has_at(
    Layout layout, bytes frame, const FieldTable* table, object text
) except -1:
    cdef Path path
    cdef Found found
    text = in_field(layout, frame, table, text)
    if not parse_path(text, &path):
        return False
    if path.count == 0:
        return table_has(table, path.field)
    find_path(layout, frame, table, &path, &found)
    return found.container != NULL


cdef object in_field(
    Layout layout, bytes frame, const FieldTable* table, object text
):
    if layout.groups is None:
        return text
    name, _, steps = text.partition(_spec.STEP)
    fields = layout.groups.get(name)
    if fields is None or not steps:
        return text
    step = steps.partition(_spec.STEP)[0]
    for field in fields:
        if has_at(layout, frame, table, f"{field}{_spec.STEP}{step}"):
            return f"{field}{_spec.STEP}{steps}"
    return text


cdef object field_text(Layout layout, bytes frame, const FieldTable* table, int field):
    return text_at(layout, frame, table.starts[table_rank(table, field)], field)


cdef dict dict_of(
    Layout layout, bytes frame, const FieldTable* table, object mti, bint inside
):
    cdef dict fields = __Pyx_PyDict_NewPresized(table.count + 2)
    cdef uint64_t remaining
    cdef int word, field, rank = 0
    if table.mti_at:
        fields["header"] = frame[:table.mti_at].hex().upper()
    fields["mti"] = mti
    for word in range(BITMAPS_MAX):
        remaining = table.bitmap[word]
        while remaining:
            field = word * 64 + leading_zeros(remaining) + 1
            remaining ^= field_bit(field)
            value = None
            if inside:
                value = dict_inside(layout, frame, table, field)
            if value is None:
                value = text_at(layout, frame, table.starts[rank], field)
            fields[field] = value
            rank += 1
    return fields


cdef object text_at(Layout layout, bytes frame, Py_ssize_t at, int field):
    cdef const FieldPlan* plan = &layout.plans[field]
    cdef const uint8_t* start = <const uint8_t*> PyBytes_AS_STRING(frame)
    cdef const uint8_t* data = NULL
    cdef Py_ssize_t count = read_content(plan, start + at, &data)
    text = PyUnicode_New(text_length(plan, count), 127)
    if read_text(plan, data, count, PyUnicode_1BYTE_DATA(text)) == 0:
        return text
    return decode_content(
        plan, layout.encodings[field], field, data - start, data, count
    )


# ---- all of it

# Over the elements of one container. Each may be given a key that no other has ("9C",
# "9C#2"); where only some are asked for theirs, those are counted among themselves.
@cython.final
cdef class Walk:
    cdef Container container
    cdef const View* view
    cdef Cursor cursor
    cdef Item item
    cdef Element element
    cdef object place
    cdef dict seen
    cdef str key

    cdef bint next(self) except -1:
        cdef InsideFault fault
        cdef int status
        fault.slot = SLOT_UNKNOWN
        status = self.container.next(self.view, &self.cursor, &self.item, &fault)
        if status < 0:
            raise self.container.fault_error(
                self.view, &fault, self.item.key, self.place
            )
        if status == 0:
            return False
        self.element = self.container.element_of(&self.item)
        self.key = None
        return True

    cdef str named(self):
        cdef str step
        if self.key is None:
            self.key = step = self.container.step_of(&self.item)
            count = self.seen.get(step, 0) + 1
            self.seen[step] = count
            if count > 1:
                self.key = f"{step}{_spec.OCCURRENCE}{count}"
        return self.key

    cdef Container inside(self):
        return self.container.inside_of(self.element, self.item.key)

    cdef str key_place(self):
        return f"{self.place}.{self.named()}"

    cdef object open(self, Container inside, View* view, int depth):
        if depth >= DEPTH_MAX:
            raise DecodeError(
                self.key_place(), offset_in_frame(self.view, self.item.data),
                f"containers at most {DEPTH_MAX} deep", "more",
            )
        return inside.open(
            &self.element.plan, self.view.data + self.item.data, self.item.count,
            self.view, self.item.data, view, self.key_place(),
        )

    cdef object text(self):
        text = ascii_text(self.element, self.view, &self.item)
        if text is None:
            text = other_text(
                self.element, self.view, &self.item, self.key_place()
            )
        return text


cdef Walk walk_over(Container container, const View* view, int* left, object place):
    cdef Walk walk = Walk.__new__(Walk)
    walk.container = container
    walk.view = view
    walk.cursor.at = 0
    walk.cursor.position = 0
    walk.cursor.left = left
    walk.place = place
    walk.seen = {}
    return walk


cdef dict dict_inside(Layout layout, bytes frame, const FieldTable* table, int field):
    cdef Container container
    cdef View view
    cdef int left = ELEMENTS_MAX
    if layout.insides[field] is None:
        return None
    container = <Container> layout.insides[field]
    try:
        _owner = open_field(layout, frame, table, field, &view)
        return to_dict(container, &view, 1, &left, str(field))
    except DecodeError:
        if container.strict:
            raise
        return None


cdef dict to_dict(
    Container container, const View* view, int depth, int* left, object place
):
    cdef dict values = {}
    cdef Walk walk = walk_over(container, view, left, place)
    cdef Container inside
    cdef View inner
    while walk.next():
        walk.named()
        inside = walk.inside()
        if inside is not None:
            try:
                _owner = walk.open(inside, &inner, depth)
                values[walk.key] = to_dict(
                    inside, &inner, depth + 1, left, walk.key_place()
                )
                continue
            except DecodeError:
                if inside.strict:
                    raise
        values[walk.key] = walk.text()
    return values


# ---- checking

cdef int validate_field(
    Layout layout, bytes frame, const FieldTable* table, int field
) except -1:
    cdef const FieldPlan* plan = &layout.plans[field]
    cdef Container container
    cdef View whole, view
    cdef Py_ssize_t at
    cdef Py_ssize_t count = locate(plan, frame, table, field, &whole, &at)
    cdef int left = ELEMENTS_MAX
    if layout.insides[field] is not None:
        container = <Container> layout.insides[field]
        try:
            _owner = open_field(layout, frame, table, field, &view)
            validate(container, &view, 1, &left, str(field))
            return 0
        except DecodeError:
            if container.strict:
                raise
    check_text(plan, layout.encodings[field], field, at, whole.data + at, count)
    return 0


cdef int validate(
    Container container, const View* view, int depth, int* left, object place
) except -1:
    cdef Walk walk = walk_over(container, view, left, place)
    cdef Container inside
    cdef View inner
    while walk.next():
        inside = walk.inside()
        if inside is not None:
            try:
                _owner = walk.open(inside, &inner, depth)
                validate(inside, &inner, depth + 1, left, walk.key_place())
                continue
            except DecodeError:
                if inside.strict:
                    raise
        check_text(
            &walk.element.plan, walk.element.encoding, walk,
            offset_in_frame(view, walk.item.data), view.data + walk.item.data,
            walk.item.count,
        )
    return 0


# `place` is a field's number, or the walk that is at the element.
cdef int check_text(
    const FieldPlan* plan, object encoding, object place, Py_ssize_t offset,
    const uint8_t* data, Py_ssize_t count
) except -1:
    cdef uint8_t scratch[SCRATCH_SIZE]
    if plan.data_form == DATA_BINARY:
        return 0
    if text_length(plan, count) <= SCRATCH_SIZE and read_text(
        plan, data, count, scratch
    ) == 0:
        return 0
    # All of it is ASCII where the codec says so, however long: that is no fault.
    if plan.data_form == DATA_BCD:
        if first_nibble(plan, data, count) >= 0:
            return 0
    if isinstance(place, Walk):
        place = (<Walk> place).key_place()
    decode_content(plan, encoding, place, offset, data, count)
    return 0


# ---- for people

cdef object part_of(
    Layout layout, bytes frame, const FieldTable* table, int field, object spec
):
    cdef Container container
    cdef View view
    cdef int left = ELEMENTS_MAX
    parts = fault = text_fault = None
    value = ""
    try:
        value = field_text(layout, frame, table, field)
    except DecodeError as error:
        text_fault = error
    if layout.insides[field] is not None:
        container = <Container> layout.insides[field]
        parts = []
        try:
            _owner = open_field(layout, frame, table, field, &view)
            add_parts(parts, container, &view, 1, &left, str(field))
        except DecodeError as error:
            fault = error
            if not container.strict:
                parts = fault = None
    # Where there are parts they show it, though it is no text as a whole.
    if parts is None:
        fault = text_fault
    return _spec.Part(
        str(field), spec.name, _spec.kind_of(spec), value, parts, fault
    )


# Adds as it goes: after a fault there is what came before it.
cdef int add_parts(
    list found, Container container, const View* view, int depth, int* left,
    object place
) except -1:
    cdef Walk walk = walk_over(container, view, left, place)
    cdef Container inside
    cdef View inner
    while walk.next():
        field = walk.element.field
        parts = fault = text_fault = None
        value = ""
        try:
            value = walk.text()
        except DecodeError as error:
            text_fault = error
        inside = walk.inside()
        if inside is not None:
            parts = []
            try:
                _owner = walk.open(inside, &inner, depth)
                add_parts(parts, inside, &inner, depth + 1, left, walk.key_place())
            except DecodeError as error:
                fault = error
                if not inside.strict:
                    parts = fault = None
        if parts is None:
            fault = text_fault
        found.append(
            _spec.Part(
                walk.named(), field.name, _spec.kind_of(field), value, parts, fault
            )
        )
    return 0
