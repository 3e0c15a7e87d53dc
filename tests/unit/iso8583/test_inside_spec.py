"""Containers as data: what a spec may say, and what it may not."""

import json

import msgspec
import pytest

import iso8583
from iso8583.inside import (
    DEPTH_MAX,
    BerTlv,
    NestedBitmap,
    Positional,
    Tagged,
    emv_tags,
)
from tests.unit.iso8583.inside_specs import field, spec_of


@pytest.mark.parametrize(
    ("inside", "content", "fault"),
    [
        (Positional(fields=(field(1),), required=2), "b", "0 to 1 required fields"),
        (Positional(fields=(field(1), field(1, encoding="no"))), "b", "element 2: exp"),
        (Positional(fields=(field(9, encoding="bcd"),)), "n", "element 1: .* text"),
        (Positional(fields=(field(1),), hex=True), "b", "hex digits in text"),
        (
            Positional(fields=(field(9, prefix_digits=1),), open_end=True),
            "b",
            "element 1: expected no prefix",
        ),
        (Positional(fields=(field(9, "n"),), open_end=True), "b", "counts bytes"),
        (NestedBitmap(size=1, fields={9: field(1)}), "b", r"1\.\.8 of a bitmap of 1"),
        (NestedBitmap(size=1, fields={1: field(1)}), "n", "text inside packed digits"),
        (BerTlv(), "n", "bytes, or hex digits"),
        (BerTlv(fields={"9F": field(1)}), "b", "element 9F: expected a tag"),
        (BerTlv(fields={"9f36": field(1)}), "b", "element 9f36: expected a tag"),
        (BerTlv(fields={"00": field(1)}), "b", "element 00: expected a tag"),
        (BerTlv(fields={"9F818182": field(1)}), "b", "expected a tag of 1 to 3"),
        (BerTlv(fields={"9F36": field(1, unit="digits")}), "b", "unit of bytes"),
        (BerTlv(fields={"9F36": field(1, prefix_digits=1)}), "b", "no prefix beside"),
        (
            Tagged(id_size=2, prefix_digits=2, fields={"1": field(1)}),
            "ans",
            "an id of 2",
        ),
        (
            Tagged(id_size=2, prefix_digits=2, fields={"1.": field(1)}),
            "ans",
            r"element 1\.: expected an id of 2 bytes in ascii",
        ),
        (
            Tagged(id_size=2, prefix_digits=2, fields={"11": field(100)}),
            "ans",
            "element 11: expected a length of at most 99",
        ),
        (
            Tagged(id_size=2, prefix_digits=2, leading={"no": field(1)}),
            "ans",
            "element no: expected a name in small letters, not as long as ids",
        ),
        (
            Tagged(id_size=2, prefix_digits=2, id_encoding="binary"),
            "n",
            "text inside packed digits",
        ),
        (Tagged(id_size=2, prefix_digits=2, id_encoding="no"), "ans", "an encoding"),
    ],
)
def test_what_cannot_be_is_refused(inside, content, fault):
    with pytest.raises(iso8583.SpecError, match=f"field 60: .*{fault}"):
        spec_of(inside, content)


def test_a_content_class_without_an_encoding_is_refused():
    with pytest.raises(iso8583.SpecError, match="element 1: expected an encoding"):
        spec_of(Positional(fields=(field(1, "ns"),)), "b")


def test_containers_nest_so_deep_and_no_deeper():
    inside = Positional(fields=(field(1),))
    for _ in range(DEPTH_MAX - 1):
        inside = Positional(fields=(field(1, inside=inside),))
    iso8583.Codec(spec_of(inside, "ans"))
    with pytest.raises(iso8583.SpecError, match=f"at most {DEPTH_MAX} deep"):
        spec_of(Positional(fields=(field(1, inside=inside),)), "ans")


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ({"kind": "xml"}, "Invalid value 'xml'"),
        ({"kind": "ber-tlv", "id_size": 1}, "unknown field `id_size`"),
        ({"kind": "tagged", "id_size": 5, "prefix_digits": 1}, "`int` <= 4"),
        ({"kind": "tagged", "id_size": 1, "prefix_digits": 0}, "`int` >= 1"),
        ({"kind": "bitmap", "size": 25, "fields": {}}, "`int` <= 24"),
        ({"kind": "positional", "fields": []}, "length >= 1"),
    ],
)
def test_a_file_is_held_to_the_types(tmp_path, inside, fault):
    plain = msgspec.to_builtins(spec_of(BerTlv()), str_keys=True)
    plain["fields"]["60"]["inside"] = inside
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(iso8583.SpecError, match=fault):
        iso8583.load_spec(path)


@pytest.mark.parametrize("name", iso8583.spec_names())
def test_a_shipped_spec_is_what_its_own_json_says(name, tmp_path):
    spec = iso8583.load_spec(name)
    path = tmp_path / "spec.json"
    path.write_bytes(msgspec.json.encode(spec))
    assert iso8583.load_spec(path) == spec
    assert spec.fields[55].inside is not None


def test_emv_tags_are_well_formed():
    tags = emv_tags()
    assert len(tags) > 120
    fields = {tag: field(1, "b") for tag in tags}
    iso8583.Codec(spec_of(BerTlv(fields=fields)))
    assert list(tags) == sorted(tags, key=bytes.fromhex)
    formats = {"a", "an", "ans", "b", "cn", "n", "var."}
    assert {tag.format for tag in tags.values()} == formats
    secret = {"5A": "pan", "57": "track", "56": "track", "99": "pin", "9F26": "chip"}
    assert {tag: tags[tag].sensitive for tag in secret} == secret
    codec = iso8583.Codec(spec_of(BerTlv(tags="emv"), length=9999, prefix_digits=4))
    message = codec.message({"mti": "0100", 60: dict.fromkeys(tags, "")})
    parts = message.parts()[0].parts
    assert parts is not None
    assert [(part.key, part.name, part.sensitive) for part in parts] == [
        (tag.tag, tag.name, tag.sensitive) for tag in tags.values()
    ]
    for tag in tags.values():
        # what is inside a template is shown by itself, the template never
        if bytes.fromhex(tag.tag)[0] & 0x20:
            assert tag.sensitive == "chip"
