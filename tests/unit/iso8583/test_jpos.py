"""jPOS packager XML as specs: beside a frame of jPOS's own, and what is refused."""

from pathlib import Path

import pytest

import iso8583

VECTORS = Path(__file__).parents[2] / "vectors"
OWN = VECTORS / "jpos-own.xml"
HEAD = (
    '<isopackager><isofield id="0" length="4" name="m" class="IFA_NUMERIC"/>'
    '<isofield id="1" length="16" name="b" class="IFA_BITMAP"/>'
)


def load(path, fields, left_out=None, head=HEAD):
    file = path / "packager.xml"
    file.write_text(f"{head}{fields}</isopackager>")
    return iso8583.load_spec(file, left_out)


def test_a_frame_that_jpos_packed_is_read_and_written_byte_for_byte():
    data = bytes.fromhex((VECTORS / "jpos-own.hex").read_text())
    codec = iso8583.Codec(iso8583.load_spec(OWN))
    message = codec.decode(data)
    message.validate()
    assert message[4] == "00000001500"
    assert message[23] == "001"
    assert message[29] == "D00000034"
    assert message[35] == "9999990000000014=31122011"
    assert message[41] == "TERM0001"
    assert message[96] == "99AABBCCDDEEFF00"
    assert message["120.2"] == "Main street"
    assert message["127.25.3"] == "0102030405060708"
    assert codec.encode(message.to_dict(inside=True)) == data


@pytest.mark.parametrize("name", [*iso8583.spec_names(), OWN])
def test_a_saved_spec_is_loaded_as_it_was(name, tmp_path):
    spec = iso8583.load_spec(name)
    iso8583.save_spec(spec, tmp_path / "saved.json")
    assert iso8583.load_spec(tmp_path / "saved.json") == spec


def test_card_data_is_masked_though_a_packager_does_not_say_what_it_is():
    fields = iso8583.load_spec(OWN).fields
    assert fields[2].sensitive == "pan"
    assert fields[52].sensitive == "pin"
    assert fields[127].sensitive == "private"


FIELD = '<isofield id="{}" length="{}" name="x" class="org.jpos.iso.{}"/>'


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (FIELD.format(5, 6, "IFB_LLHFBINARY"), "field 5: class IFB_LLHFBINARY"),
        (FIELD.format(5, 6, "IFA_NONESUCH"), "field 5: class IFA_NONESUCH"),
        (FIELD.format(5, 6, "IFA_FLLNUM"), "field 5: class IFA_FLLNUM"),
        (FIELD.format(5, 0, "IF_CHAR"), "field 5: length: expected 1..65535, got '0'"),
        (FIELD.format(5, 9999999, "IF_CHAR"), "field 5: length"),
        (FIELD.format("x", 6, "IF_CHAR"), "field x: id"),
        (FIELD.format(5, 6, "IF_CHAR") * 2, "field 5: expected each id once"),
        ("<other id='5'/>", "field 5: expected isofield, got other"),
        (
            (
                '<isofieldpackager id="48" length="99" name="x" class="IFA_LLLCHAR" '
                'packager="a.GenericTaggedFieldsPackager"/>'
            ),
            "field 48: packager GenericTaggedFieldsPackager",
        ),
    ],
)
def test_what_cannot_be_expressed_is_named_by_field_and_class(fields, said, tmp_path):
    with pytest.raises(iso8583.SpecError) as raised:
        load(tmp_path, fields)
    assert said in str(raised.value)
    assert "packager.xml" in str(raised.value)


def test_what_cannot_be_expressed_is_left_out_where_a_list_is_given(tmp_path):
    left_out: list[str] = []
    fields = FIELD.format(5, 6, "IFA_NONESUCH") + FIELD.format(6, 12, "IFA_NUMERIC")
    spec = load(tmp_path, fields, left_out)
    assert sorted(spec.fields) == [6]
    assert left_out == ["field 5: class IFA_NONESUCH: no counterpart here"]


def test_a_field_that_no_spec_may_have_is_left_out_too(tmp_path):
    left_out: list[str] = []
    fields = FIELD.format(5, 200, "IFA_LLNUM") + FIELD.format(65, 1, "IFA_NUMERIC")
    spec = load(tmp_path, fields + FIELD.format(129, 1, "IFA_NUMERIC"), left_out)
    assert sorted(spec.fields) == [65]
    assert len(left_out) == 2
    assert left_out[0].startswith("field 5: expected a length of at most 99")
    assert left_out[1] == "field 129: expected field numbers in 2..128, got 129"


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE isopackager [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + HEAD,
        '<!DOCTYPE isopackager [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + HEAD,
        "<isopackager><isofield",
        "<other>",
        "<isopackager>",
        '<isopackager emitBitmap="false">',
    ],
)
def test_a_hostile_or_broken_file_is_refused(head, tmp_path):
    with pytest.raises(iso8583.SpecError, match=r"packager\.xml"):
        load(tmp_path, "", head=head)


def test_packagers_nested_without_end_are_refused(tmp_path):
    opening = (
        '<isofieldpackager id="48" length="99" name="x" class="IFA_LLCHAR" '
        'emitBitmap="false" packager="GenericSubFieldPackager">'
    )
    with pytest.raises(iso8583.SpecError, match="deep"):
        load(tmp_path, opening * 500 + "</isofieldpackager>" * 500)
