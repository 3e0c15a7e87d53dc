"""Dialects: what is shipped, where they are looked for, what is refused."""

import json

import pytest

import iso8583
from iso8583.dialect import FunctionCodes, NetworkCodes, PartialApproval

SPEC = iso8583.load_spec("iso87-ascii")


def shipped(name: str) -> iso8583.Dialect:
    return iso8583.load_dialect(name, iso8583.load_spec(name))


@pytest.mark.parametrize("name", ["iso87-ascii", "iso87-binary", "iso87-mixed"])
def test_the_standard_is_its_own_dialect(name):
    assert shipped(name) == iso8583.Dialect()
    assert shipped(name).network == NetworkCodes(
        FunctionCodes("001"), FunctionCodes("002"), FunctionCodes("301")
    )


def test_the_dialect_of_visa():
    dialect = shipped("visa-base1")
    assert dialect.network.sign_on.send == "071"
    assert dialect.network.sign_on.accepted == {"001", "071"}
    assert dialect.network.sign_off.accepted == {"002", "072"}
    assert dialect.network.echo.accepted == {"301"}
    assert dialect.trace_id == ("62.2",)
    assert dialect.partial_approval == PartialApproval("60.10", ("1", "3"))
    assert set(dialect.echoed) >= {62, 63}


def test_the_dialect_of_mastercard():
    dialect = shipped("mastercard-cis")
    assert dialect.network.sign_on.send == "061"
    assert dialect.network.sign_on.accepted == {"001", "061", "065"}
    assert dialect.network.sign_off.accepted == {"002", "062", "066"}
    assert dialect.network.echo.accepted == {"270"}
    assert dialect.trace_id == ("63", "15")
    assert dialect.partial_approval == PartialApproval("48.61.1", ("1",))
    assert 63 in dialect.echoed


def test_no_dialect_is_taken_for_a_spec():
    assert not [name for name in iso8583.spec_names() if "dialect" in name]


def test_a_dialect_lies_beside_the_spec_of_its_name(tmp_path):
    path = tmp_path / "acme.json"
    assert iso8583.load_dialect(path, SPEC) == iso8583.Dialect()
    beside = tmp_path / "acme.dialect.json"
    beside.write_text('{"network": {"echo": {"send": "270", "accept": ["301"]}}}')
    for given in (path, str(path)):
        dialect = iso8583.load_dialect(given, SPEC)
        assert dialect.network.echo.accepted == {"270", "301"}
        assert dialect.network.sign_on.accepted == {"001"}


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ({"net": {}}, "unknown field `net`"),
        ({"network": {"echo": {"send": "1"}}}, "Expected `str` matching regex"),
        ({"network": {"echo": {}}}, "missing required field `send`"),
        (
            {"network": {"echo": {"send": "001"}}},
            "network: expected each code to mean one function",
        ),
        ({"trace_id": ["62."]}, "Expected `str` matching regex"),
        ({"trace_id": ["62.2.1.1"]}, "Expected `str` matching regex"),
        ({"trace_id": ["1.2"]}, "expected field numbers in 2..192, got 1"),
        ({"echoed": [193]}, "expected field numbers in 2..192, got 193"),
        ({"echoed": [39]}, "expected fields to echo other than 39"),
        ({"partial_approval": {"field": "60.10", "values": []}}, "length >= 1"),
        ({"echoed": [65, 63]}, "expected fields of the spec, got [65]"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_a_bad_dialect_says_what_and_where(tmp_path, dialect, text):
    path = tmp_path / "bad.dialect.json"
    path.write_text(json.dumps(dialect))
    with pytest.raises(iso8583.SpecError) as caught:
        iso8583.load_dialect(tmp_path / "bad.json", SPEC)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_dialect_too_large_or_not_to_be_read(tmp_path):
    path = tmp_path / "large.dialect.json"
    path.write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(iso8583.SpecError, match="expected at most 1048576 bytes"):
        iso8583.load_dialect(tmp_path / "large.json", SPEC)
