"""Files of specs: any spec that is saved is loaded as it was; any file, and any change
to one that is good, is a spec or a SpecError that names the file, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import iso8583
from tests.properties.codec_messages import CODECS, specs
from tests.properties.test_inside import codecs as codecs_with_inside

VECTORS = Path(__file__).parents[1] / "vectors"
MOOV = json.loads((VECTORS / "moov-own.json").read_text())
JPOS = (VECTORS / "jpos-own.xml").read_text()
# Each way that a value can be of the wrong type, too large, or something else.
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["ascii", "bcd", "BerTLV", "Composite", "1", "065", "-1", "٣"]),
    st.just([]),
    st.just({}),
    st.just({"type": "String"}),
    st.lists(st.integers(), max_size=2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("specs")


def load(path: Path, left_out: list[str] | None = None) -> iso8583.Spec | str:
    """The spec, or why there is none."""
    try:
        return iso8583.load_spec(path, left_out)
    except iso8583.SpecError as error:
        return str(error)


def load_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    left_out: list[str] = []
    for loaded in (load(path), load(path, left_out)):
        if isinstance(loaded, str):
            assert loaded.startswith(f"{path}: ")
        else:
            # What is a spec is a codec.
            assert iso8583.Codec(loaded).spec == loaded


def places(document: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value of a document."""
    if isinstance(document, dict):
        inside = list(document.items())
    else:
        inside = list(enumerate(document)) if isinstance(document, list) else []
    found = [before]
    for key, value in inside:
        found += places(value, (*before, key))
    return found


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copied = document.copy()
    copied[place[0]] = changed(document[place[0]], place[1:], value)
    return copied


@given(spec=specs(), name=st.text(st.characters(codec="utf-8")))
def test_a_spec_that_is_saved_is_loaded_as_it_was(folder, spec, name):
    spec = msgspec.structs.replace(spec, name=name, description=name[::-1])
    iso8583.save_spec(spec, folder / "saved.json")
    assert iso8583.load_spec(folder / "saved.json") == spec


@given(codec=codecs_with_inside())
def test_so_is_one_with_something_inside(folder, codec):
    iso8583.save_spec(codec.spec, folder / "saved.json")
    assert iso8583.load_spec(folder / "saved.json") == codec.spec


OWN = {
    name: msgspec.to_builtins(CODECS[name].spec, str_keys=True)
    for name in ("mastercard-cis", "postilion", "visa-base1")
}
GOOD = [*OWN.values(), MOOV]
PLACES = [places(document) for document in GOOD]


@given(index=st.integers(0, len(GOOD) - 1), data=st.data())
def test_a_value_of_a_good_file_changed_to_anything(folder, index, data):
    document = GOOD[index]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(PLACES[index]))
        try:
            document = changed(document, place, data.draw(JUNK))
        except (AttributeError, IndexError, KeyError, TypeError):
            # What was there has been changed already.
            continue
    load_or_refuse(folder / "changed.json", json.dumps(document).encode())
    if index == len(GOOD) - 1:
        content = yaml.safe_dump(document, allow_unicode=True).encode()
        load_or_refuse(folder / "changed.yaml", content)


VALUES = [found.span(1) for found in re.finditer('="([^"]*)"', JPOS)]


@given(span=st.sampled_from(VALUES), value=st.text("0123456789-ABFILNRx", max_size=9))
def test_an_attribute_of_a_good_packager_changed_to_anything(folder, span, value):
    start, end = span
    load_or_refuse(folder / "changed.xml", (JPOS[:start] + value + JPOS[end:]).encode())


@given(
    beginning=st.sampled_from([b"", b"{", b"<", b'{"fields":{"2":', b"fields:\n  2: "]),
    rest=st.one_of(
        st.binary(max_size=60),
        st.text('{}[]":,&*!|<>- \n\\12af', max_size=60).map(str.encode),
    ),
)
def test_any_bytes_are_a_spec_or_refused(folder, beginning, rest):
    load_or_refuse(folder / "any", beginning + rest)
