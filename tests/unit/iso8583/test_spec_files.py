"""Hostile files of specs: refused by name, whoever's format they pretend to be in."""

import json

import pytest

import iso8583
from iso8583.spec import SPEC_FILE_SIZE_MAX

HEAD = '{"name": "x", "mti": "ascii", "bitmap": "hex", "prefix_encoding": "ascii", '
FIELD = '{"name": "y", "content": "n", "length": 3, "encoding": "ascii"}'
MOOV = '{"type": "String", "length": 3, "enc": "ASCII", "prefix": "ASCII.Fixed"}'
LAUGHS = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def nested(depth):
    opening = '{"name": "y", "content": "b", "length": 9, "encoding": "binary", '
    opening += '"inside": {"kind": "positional", "fields": ['
    return opening * depth + "]}}" * depth


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(" " * SPEC_FILE_SIZE_MAX + "{}", "expected at most", id="huge"),
        pytest.param("[" * 100_000, "brackets at most 64 deep", id="deep"),
        pytest.param('{"fields":' * 100_000, "brackets at most 64 deep", id="deep too"),
        pytest.param(
            HEAD + '"fields": {"2": ' + nested(30) + "}}",
            "brackets at most 64 deep",
            id="deep inside",
        ),
        # Each quote could begin a text that ends nowhere.
        pytest.param('{"' + '\\"' * 500_000, "Input data was truncated", id="quotes"),
        pytest.param(
            HEAD + f'"fields": {{"2": {FIELD}, "2": {FIELD}}}}}',
            "expected each key once, got '2' again",
            id="twice",
        ),
        pytest.param(
            HEAD + '"fields": {"2": ' + FIELD[:-1] + ', "length": 4}}}',
            "expected each key once, got 'length' again",
            id="twice in a field",
        ),
        pytest.param(
            f'{{"fields": {{"2": {MOOV}, "2": {MOOV}}}}}',
            "expected each key once, got '2' again",
            id="moov twice",
        ),
        pytest.param(
            HEAD + '"fields": {"2": ' + FIELD.replace("3", '"3"') + "}}",
            "field 2: Expected `int`, got `str` - at `$.length`",
            id="wrong type",
        ),
        pytest.param(
            HEAD + '"fields": {"2": 5}}', "field 2: Expected `object`", id="no field"
        ),
        pytest.param(
            HEAD + '"fields": {"2": ' + FIELD.replace("3", "1" * 5000) + "}}",
            "field 2: Integer value out of range - at `$.length`",
            id="a number of 5000 digits",
        ),
        pytest.param(
            HEAD + '"fields": {"2": ' + FIELD.replace('"y"', "{}") + "}}",
            "field 2: Expected `str`, got `object` - at `$.name`",
            id="no name",
        ),
        pytest.param("[]", "Expected `object`, got `array`", id="no object"),
        pytest.param('{"fields": 5}', "Expected `object`, got `int`", id="no fields"),
        pytest.param("fields: " + "[" * 9_000, "YAML at most 64 deep", id="deep YAML"),
        pytest.param("fields:\n" + "- " * 9_000, "YAML at most 64 deep", id="dashes"),
        pytest.param(
            "a: &a [lol]\n" + LAUGHS + "fields: *i\n",
            "YAML without anchors and aliases",
            id="billion laughs",
        ),
        pytest.param(
            "fields: &f {2: *f}\n", "without anchors and aliases", id="endless YAML"
        ),
        pytest.param(
            "fields:\n  2: {type: String}\n  2: {type: String}\n",
            "expected each key once, got '2' again",
            id="YAML twice",
        ),
        pytest.param(
            "fields:\n  ? [2]\n  : 3\n",
            "expected keys that are text",
            id="a list as key",
        ),
        pytest.param(
            "fields: !!python/object/apply:os.system [echo]\n",
            "expected YAML of moov's: fields with a type",
            id="YAML that makes objects",
        ),
        pytest.param(
            "fields: 1\n---\nfields: 2\n", "one YAML document, got 2", id="two"
        ),
        pytest.param("fields:\n\t- x: [\n", "expected YAML in line 2", id="no YAML"),
        pytest.param("fields:\n  \x01: 2\n", "expected YAML", id="control characters"),
        pytest.param("<a>" * 100_000, "expected jPOS packager XML", id="deep XML"),
        pytest.param("hello", "JSON is malformed", id="nothing"),
    ],
)
def test_a_hostile_file_is_refused_by_its_name(content, said, tmp_path):
    path = tmp_path / "hostile"
    path.write_text(content)
    with pytest.raises(iso8583.SpecError) as raised:
        iso8583.load_spec(path)
    text = str(raised.value)
    assert said in text
    assert text.startswith(f"{path}: ")
    assert len(text) < len(str(path)) + 200


def test_what_is_in_texts_is_not_nesting(tmp_path):
    path = tmp_path / "brackets.json"
    field = json.loads(FIELD) | {"name": '[{"' * 100}
    document = json.loads(HEAD + '"fields": {}}') | {"fields": {"2": field}}
    path.write_text(json.dumps(document))
    assert iso8583.load_spec(path).fields[2].name == '[{"' * 100


def test_containers_as_deep_as_they_may_be_are_loaded(tmp_path):
    field = iso8583.FieldSpec(name="y", content="b", length=9, encoding="binary")
    for _ in range(8):
        inside = iso8583.NestedBitmap(size=1, fields={1: field})
        field = iso8583.FieldSpec(
            name="y", content="b", length=9, encoding="binary", inside=inside
        )
    spec = iso8583.Spec(
        name="x", mti="ascii", bitmap="hex", prefix_encoding="ascii", fields={2: field}
    )
    iso8583.save_spec(spec, tmp_path / "deep.json")
    assert iso8583.load_spec(tmp_path / "deep.json") == spec


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_may_begin_with_the_mark_of_utf_8(mark, tmp_path):
    path = tmp_path / "marked.json"
    content = '{"fields": {"0": ' + MOOV.replace("3", "4") + ', "1": '
    content += '{"type": "Bitmap", "enc": "Binary"}, "2": ' + MOOV + "}}"
    path.write_bytes(mark + content.encode())
    assert list(iso8583.load_spec(path).fields) == [2]
