# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: nonecheck=False, auto_pickle=False, autotestdict=False
"""Values to the bytes of a container: all of it, or one element changed.

A change takes out the element's bytes and puts others in their place: whatever else
is in the container, known or not, stays as it came. Then the container is the new
value of the element that it is inside of, and so on up to the field.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t

from collections.abc import Mapping

from iso8583._encode cimport encode_field, encode_value
from iso8583._inside cimport (
    BER_TLV,
    BITMAP,
    ELEMENTS_MAX,
    KEEP,
    POSITIONAL,
    REST_KEY,
    SLOT_UNKNOWN,
    TAGGED,
    Container,
    Cursor,
    Element,
    InsideFault,
    Item,
    View,
)
from iso8583._layout cimport Layout
from iso8583._path cimport (
    DEPTH_MAX,
    Path,
    Step,
    parse_path,
    parse_step,
    place_of,
)
from iso8583._read_inside cimport in_field, open_field
from iso8583._wire cimport FieldTable, table_has

from iso8583 import inside as _spec
from iso8583.errors import EncodeError

cdef object DELETED = object()
cdef str STEP = _spec.STEP
# An object: bitmaps may have more bits than a number of C.
cdef object BIT = 1

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


# ---- one element

# With its tag or id, and its length.
cdef bytes encode_element(
    Container container, int64_t key, object value, object place, int depth
):
    cdef Item item
    cdef Element element
    cdef Container inside
    cdef bytes wire
    item.key = key
    item.slot = container.slot_of(key)
    if item.slot == SLOT_UNKNOWN and (
        container.unknown != KEEP or (container.kind == POSITIONAL and key != REST_KEY)
    ):
        raise EncodeError(place, "an element of the spec", "an unknown one")
    element = container.element_of(&item)
    if not isinstance(value, (str, bytes)) and isinstance(value, Mapping):
        inside = container.inside_of(element, key)
        if inside is None:
            raise EncodeError(place, "str or bytes", type(value).__name__)
        value = encode_mapping(inside, value, place, depth + 1)
    try:
        wire = encode_value(&element.plan, element.encoding, value)
    except EncodeError as error:
        raise EncodeError(
            place, error.expected, error.got, error.offset
        ) from None
    wire = wire[element.plain_prefix:]
    if container.kind == BER_TLV:
        return big_endian(key) + ber_length(PyBytes_GET_SIZE(wire)) + wire
    if container.kind == TAGGED and key >= 0:
        return int(key).to_bytes(container.id_size, "big") + wire
    return wire


cdef bytes big_endian(int64_t number):
    return int(number).to_bytes(max((int(number).bit_length() + 7) // 8, 1), "big")


# -- EMV 4.3 book 3, annex B2: the shortest form
cdef bytes ber_length(Py_ssize_t size):
    if size < 0x80:
        return bytes((size,))
    length = big_endian(size)
    return bytes((0x80 | len(length),)) + length


cdef int64_t key_of(Container container, object step, object place) except? -1:
    cdef Step parsed
    cdef Py_ssize_t size
    cdef int64_t key = 0
    cdef const char* text
    step = str(step)
    if step.isascii():
        text = PyUnicode_AsUTF8AndSize(step, &size)
        if parse_step(&parsed, <const uint8_t*> text, size) and container.key_of(
            &parsed, &key
        ) and (container.kind != BER_TLV or is_tag(key)):
            return key
    raise EncodeError(place, "the id of an element", "another key")


# -- EMV 4.3 book 3, annex B1
cdef bint is_tag(int64_t key):
    cdef bytes tag = big_endian(key)
    cdef bint follows = tag[0] & 0x1F == 0x1F
    return (
        tag[0] != 0
        and follows == (len(tag) > 1)
        and all([byte & 0x80 for byte in tag[1:len(tag) - 1]])
        and not (follows and tag[len(tag) - 1] & 0x80)
    )


# ---- a whole container

def encode_inside(Container container not None, mapping, place):
    """A mapping of the container's elements as a value of the field around it."""
    return encode_mapping(container, mapping, place, 1)


cdef object encode_mapping(
    Container container, object mapping, object place, int depth
):
    cdef list pairs
    cdef int64_t key
    if depth > DEPTH_MAX:
        raise EncodeError(place, f"containers at most {DEPTH_MAX} deep", "more")
    if len(mapping) > ELEMENTS_MAX:
        raise EncodeError(place, f"at most {ELEMENTS_MAX} elements", f"{len(mapping)}")
    pairs = []
    for step, value in mapping.items():
        key = key_of(container, step, place)
        wire = encode_element(container, key, value, f"{place}.{step}", depth)
        pairs.append((key, wire))
    if container.kind == POSITIONAL or container.kind == BITMAP:
        pairs = ordered(container, pairs, place)
    elif container.leading_count:
        # -1, -2, ... and then the rest, as they came.
        pairs.sort(key=_leading_first)
        check_leading(container, pairs, place)
    data = b"".join([wire for _, wire in pairs])
    if container.leading_optional:
        check_told_apart(container, data, bool(pairs) and pairs[0][0] < 0, place)
    if container.kind == BITMAP:
        data = bitmap_of(container, [key for key, _ in pairs]) + data
    return container.closed(data)


def _leading_first(pair):
    return -pair[0] if pair[0] < 0 else 1 << 62


cdef int check_leading(Container container, list pairs, object place) except -1:
    leading = [key for key, _ in pairs if key < 0]
    if container.leading_optional and not leading:
        return 0
    if leading != [-1 - index for index in range(container.leading_count)]:
        raise EncodeError(
            place, f"each of {container.leading_count} leading parts once", "others"
        )
    return 0


# Optional leading parts are there where the data does not begin with a digit.
cdef int check_told_apart(
    Container container, bytes data, bint has_leading, object place
) except -1:
    cdef bint is_digit = not data or container.is_digit(data[0])
    if is_digit == has_leading:
        expected = "another character" if has_leading else "a digit"
        raise EncodeError(place, f"{expected} first", "none" if not data else "other")
    return 0


cdef list ordered(Container container, list pairs, object place):
    cdef dict by_key = dict(pairs)
    if len(by_key) != len(pairs):
        raise EncodeError(place, "one value of each element", "two")
    rest = by_key.pop(REST_KEY, None)
    keys = sorted(by_key)
    if container.kind == POSITIONAL:
        if keys != list(range(1, len(keys) + 1)):
            raise EncodeError(place, "elements from 1 without a gap", "a gap")
        if len(keys) < (
            container.required if rest is None else container.known_count
        ):
            raise EncodeError(
                place, f"at least {container.required} elements", f"{len(keys)}"
            )
    found = [(key, by_key[key]) for key in keys]
    return found if rest is None else [*found, (REST_KEY, rest)]


cdef bytes bitmap_of(Container container, list numbers):
    bits = 0
    for number in numbers:
        bits |= BIT << (container.bits - number)
    return bitmap_bytes(container, bits)


cdef bytes bitmap_bytes(Container container, object bits):
    bitmap = bits.to_bytes(container.bits // 8, "big")
    if container.bitmap_size * 8 == container.bits:
        return bitmap
    return bitmap.hex().upper().encode("ascii")


# ---- one element changed

cdef tuple changed(
    Layout layout, bytes frame, const FieldTable* table, object text, object value
):
    cdef list paths = [in_field(layout, frame, table, text)]
    if layout.groups is not None and value is not DELETED:
        name, _, steps = paths[0].partition(STEP)
        if name in layout.groups and steps:
            fields = behind(layout.groups[name], table)
            paths = [f"{field}{STEP}{steps}" for field in fields]
    for path in paths[:len(paths) - 1]:
        try:
            return changed_at(layout, frame, table, path, value)
        except EncodeError as error:
            # The field itself has no room: the next one may have.
            if not isinstance(error.field, int):
                raise
    return changed_at(layout, frame, table, paths[len(paths) - 1], value)


cdef dict elements_of(Layout layout, dict fields):
    cdef dict elements = {}
    for key in list(fields):
        if isinstance(key, tuple) or (isinstance(key, str) and STEP in key):
            elements[key] = fields.pop(key)
        elif layout.groups is not None and key in layout.groups and isinstance(
            fields[key], Mapping
        ):
            for step, value in fields.pop(key).items():
                elements[f"{key}{STEP}{step}"] = value
    return elements


cdef object with_elements(object message, dict elements):
    for path, value in elements.items():
        message[path] = value
    return message


# Those of the fields in which nothing follows: the last that is there, and the rest.
cdef object behind(tuple fields, const FieldTable* table):
    cdef Py_ssize_t first = 0, index
    for index in range(len(fields)):
        if table_has(table, fields[index]):
            first = index
    return fields[first:]


cdef tuple changed_at(
    Layout layout, bytes frame, const FieldTable* table, object text, object value
):
    cdef Path path
    cdef View view
    cdef Container container
    if not parse_path(text, &path) or (
        path.count and layout.insides[path.field] is None
    ):
        if value is DELETED:
            raise KeyError(text)
        raise EncodeError(text, "a path of the spec", "another one")
    if not table_has(table, path.field):
        if value is DELETED:
            raise KeyError(text)
        value = nested(&path, 0, value)
    elif path.count:
        container = <Container> layout.insides[path.field]
        _owner = open_field(layout, frame, table, path.field, &view)
        value = container.closed(rewritten(container, &view, &path, 0, value))
    elif value is DELETED:
        return path.field, b""
    return path.field, encode_field(layout, path.field, value)


# The container's data with what is at this level of the path changed.
cdef bytes rewritten(
    Container container, const View* view, const Path* path, int level, object value
):
    cdef const Step* step = &path.steps[level]
    cdef Element element
    cdef Container inside
    cdef View inner
    cdef Item item
    cdef int64_t key
    cdef bytes wire
    cdef int left = ELEMENTS_MAX
    place = place_of(path, level + 1)
    if not container.key_of(step, &key) or (
        container.kind == BER_TLV and not is_tag(key)
    ):
        if value is DELETED:
            raise KeyError(place_of(path, path.count))
        raise EncodeError(place, "the id of an element", "another key")
    is_there = container.find(view, step, key, &left, &item, path, level)
    if not is_there and value is DELETED:
        raise KeyError(place_of(path, path.count))
    if level + 1 == path.count:
        if value is DELETED:
            wire = None
        else:
            wire = encode_element(container, key, value, place, level + 1)
    elif not is_there:
        wire = encode_element(
            container, key, nested(path, level + 1, value), place, level + 1
        )
    else:
        element = container.element_of(&item)
        inside = container.inside_of(element, key)
        if inside is None:
            if value is DELETED:
                raise KeyError(place_of(path, path.count))
            raise EncodeError(place, "an element with others inside", "another one")
        _owner = inside.open(
            &element.plan, view.data + item.data, item.count, view, item.data,
            &inner, place,
        )
        content = rewritten(inside, &inner, path, level + 1, value)
        wire = encode_element(
            container, key, inside.closed(content), place, level + 1
        )
    return spliced(
        container, view, key, &item if is_there else NULL, wire, place,
        place_of(path, level),
    )


# {"70": {"9F26": value}} for the steps of a path from this one on.
cdef object nested(const Path* path, int level, object value):
    cdef const Step* step
    cdef int index
    for index in range(path.count - 1, level - 1, -1):
        step = &path.steps[index]
        value = {(<const char*> step.text)[:step.size].decode("ascii"): value}
    return value


# `item` is what `wire` replaces: NULL adds it, and a wire of None removes the item.
cdef bytes spliced(
    Container container, const View* view, int64_t key, const Item* item, object wire,
    object place, object around
):
    cdef bytes data = (<const char*> view.data)[:view.size]
    cdef Item last
    cdef Py_ssize_t start, end, at
    # All of it is walked: what has a fault in it is not changed.
    start = where(container, view, key, &last, around)
    first_is_leading = container.leading_optional and view.size and (
        not container.is_digit(view.data[0])
    )
    end = start
    if item != NULL:
        start, end = item.start, item.end
    if container.kind == POSITIONAL:
        check_position(container, view, key, item, &last, wire, place)
    elif key < 0 and wire is None:
        if not container.leading_optional or container.leading_count > 1:
            raise EncodeError(place, "a leading part", "none")
    elif key < 0 and item == NULL and container.leading_count > 1:
        raise EncodeError(place, "all leading parts together", "one")
    if container.kind == BITMAP and (item == NULL) != (wire is None):
        at = container.bitmap_size
        data = toggled(container, data[:at], key) + data[at:]
    data = data[:start] + (b"" if wire is None else wire) + data[end:]
    if container.leading_optional:
        has_leading = wire is not None if key < 0 else first_is_leading
        check_told_apart(container, data, has_leading, place)
    return data


# The bitmap with this bit the other way round.
cdef bytes toggled(Container container, bytes bitmap, object number):
    is_hex = len(bitmap) * 8 > container.bits
    bits = int(bitmap, 16) if is_hex else int.from_bytes(bitmap, "big")
    bits ^= BIT << (container.bits - number)
    return bitmap_bytes(container, bits)


# Where an element with this key would be added. `last` is the last one there is.
cdef Py_ssize_t where(
    Container container, const View* view, int64_t key, Item* last, object place
) except -1:
    cdef Cursor cursor
    cdef Item item
    cdef InsideFault fault
    cdef int left = ELEMENTS_MAX, status
    cdef Py_ssize_t at = -1
    cursor.at = 0
    cursor.position = 0
    cursor.left = &left
    last.key = -1
    while True:
        fault.slot = SLOT_UNKNOWN
        status = container.next(view, &cursor, &item, &fault)
        if status < 0:
            raise container.fault_error(view, &fault, item.key, place)
        if status == 0:
            break
        last[0] = item
        if at < 0 and (
            (container.kind == BITMAP and item.key > key)
            or (key < 0 and not key < item.key < 0)
        ):
            at = item.start
    return at if at >= 0 else cursor.at


cdef int check_position(
    Container container, const View* view, int64_t key, const Item* item,
    const Item* last, object wire, object place
) except -1:
    cdef int64_t present = container.known_count if last.key == REST_KEY else (
        max(last.key, 0)
    )
    if wire is None:
        if last.key != key or (key != REST_KEY and key <= container.required):
            raise EncodeError(place, "the elements before the last", "a gap")
    elif item == NULL:
        wanted = container.known_count if key == REST_KEY else key - 1
        if present != wanted:
            raise EncodeError(place, f"{wanted} elements before it", f"{present}")
    return 0
