"""Card data of every shipped spec, whatever it is and however short: what is shown of a
message does not depend on it, but for the last four digits of a card number; no error
about a message, whole or broken, quotes any."""

import json
import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iso8583
from iso8583.describe import message_plain
from iso8583.inside import emv_tags
from tests.properties.codec_messages import CODECS, NAMES

KINDS = {"pan", "track", "pin", "cvv", "chip"}
# No zeros: what a spec fills up with looks like no secret then.
DIGITS = "123456789"
SHOWN_RUN_MAX = 4
PAN_DIGITS_SHOWN = 4
PAN_LENGTH_MIN = 12
LENGTH_MAX = 40
# What has to be in a field before an element of it can be.
BEGUN: dict[tuple[str, str], dict[str, str]] = {
    ("mastercard-cis", "48"): {"tcc": "R"},
}


class Secret(NamedTuple):
    path: str
    kind: str
    is_hex: bool
    least: int
    most: int


def secret_of(
    path: str, field: iso8583.FieldSpec, *, is_hex: bool, is_counted: bool = False
) -> Secret:
    """`is_counted`: what it is inside of has its length."""
    most = min(field.length, LENGTH_MAX) * (2 if is_hex else 1)
    least = 1 if field.prefix_digits or is_counted else most
    return Secret(path, str(field.sensitive), is_hex, least, most)


def chip_secrets(path: str) -> list[Secret]:
    """EMV's elements that are sensitive, and one that nobody knows."""
    known = [
        Secret(f"{path}.{tag.tag}", str(tag.sensitive), True, 2, 16)
        for tag in emv_tags().values()
        if tag.sensitive in KINDS and not int(tag.tag[:2], 16) & 0x20
    ]
    return [*known, Secret(f"{path}.DF01", "chip", True, 2, 16)]


def secrets_of(name: str) -> list[Secret]:
    codec = CODECS[name]
    found = []
    for number in codec.spec.fields:
        field = codec.spec.field(number)
        path = f"{number}"
        if field.inside is None:
            if field.sensitive in KINDS:
                is_hex = field.encoding == "binary"
                found.append(secret_of(path, field, is_hex=is_hex))
        elif number == 55:
            found += chip_secrets("55.01" if name == "visa-base1" else "55")
        elif isinstance(field.inside, iso8583.Tagged | iso8583.NestedBitmap):
            for key, element in field.inside.fields.items():
                if element.sensitive in KINDS:
                    found.append(
                        secret_of(
                            f"{path}.{key}",
                            element,
                            is_hex=element.content == "b",
                            is_counted=isinstance(field.inside, iso8583.Tagged),
                        )
                    )
    return found


SECRETS = {name: secrets_of(name) for name in NAMES}


def values(secret: Secret) -> st.SearchStrategy[str]:
    if secret.is_hex:
        pairs = st.text("123456789ABCDEF", min_size=2, max_size=2)
        if secret.kind == "pan":
            pairs = st.text(DIGITS, min_size=2, max_size=2)
        least, most = (secret.least + 1) // 2, secret.most // 2
        return st.lists(pairs, min_size=least, max_size=most).map("".join)
    return st.text(DIGITS, min_size=secret.least, max_size=secret.most)


def drawn(name: str) -> st.SearchStrategy[dict[Secret, str]]:
    chosen = st.lists(st.sampled_from(SECRETS[name]), unique=True, max_size=5)
    # A card number always: what is shown of it depends on its length.
    number = next(one for one in SECRETS[name] if one.kind == "pan")
    return chosen.flatmap(
        lambda others: st.fixed_dictionaries(
            {one: values(one) for one in (number, *others)}
        )
    )


cases = st.sampled_from(NAMES).flatmap(
    lambda name: st.tuples(st.just(name), drawn(name))
)


def message_of(name: str, content: dict[Secret, str]) -> iso8583.Message:
    codec = CODECS[name]
    message = codec.message({"mti": f"{codec.spec.version_digits[0]}100"})
    for secret, value in content.items():
        field = secret.path.partition(".")[0]
        if "." in secret.path and field not in message and (name, field) in BEGUN:
            message[field] = BEGUN[name, field]
        message[secret.path] = value
    return message


def other(secret: Secret, value: str) -> str:
    """As long, with other digits wherever they may not be shown."""
    turned = value.translate(str.maketrans(DIGITS + "ABCDEF", "234567891" + "BCDEFA"))
    if secret.kind == "pan" and len(value) >= PAN_LENGTH_MIN:
        return turned[:-PAN_DIGITS_SHOWN] + value[-PAN_DIGITS_SHOWN:]
    return turned


def everything_shown(message: iso8583.Message) -> list[str]:
    return [
        iso8583.describe(message),
        repr(iso8583.masked(message)),
        repr(iso8583.shown(message)),
        json.dumps(message_plain(message)),
        repr(message),
        repr(message.parts()),
    ]


def error_texts(error: Exception) -> list[str]:
    assert isinstance(error, iso8583.Error)
    return [str(error), repr(error), repr(vars(error))]


def assert_no_secret(texts: list[str], content: dict[Secret, str]) -> None:
    for text in texts:
        for run in re.findall(f"[0-9A-F]{{{SHOWN_RUN_MAX + 1},}}", text):
            for secret, value in content.items():
                for at in range(len(run) - SHOWN_RUN_MAX):
                    piece = run[at : at + SHOWN_RUN_MAX + 1]
                    assert piece not in value, f"{secret.path}: {piece} in {text}"


@pytest.mark.parametrize("name", NAMES)
def test_there_is_card_data_of_every_kind(name):
    assert {"pan", "track", "pin", "chip"} <= {one.kind for one in SECRETS[name]}


@settings(max_examples=150)
@given(cases)
def test_what_is_shown_does_not_depend_on_card_data(case):
    name, content = case
    turned = {one: other(one, value) for one, value in content.items()}
    shown = everything_shown(message_of(name, content))
    assert shown == everything_shown(message_of(name, turned))
    assert_no_secret(shown, content)


@settings(max_examples=150)
@given(cases, st.data())
def test_a_broken_message_shows_no_card_data(case, data):
    name, content = case
    frame = message_of(name, content).encode()
    size = data.draw(st.integers(0, len(frame) - 1))
    texts = []
    try:
        part = CODECS[name].decode(frame[:size], partial=True)
    except iso8583.DecodeError as error:
        texts += error_texts(error)
    else:
        assert part.fault is not None
        texts += [*everything_shown(part), *error_texts(part.fault)]
    assert_no_secret(texts, content)


@settings(max_examples=150)
@given(cases, st.sampled_from(NAMES), st.data())
def test_no_error_about_a_message_shows_card_data(case, reader, data):
    """Any spec may be the wrong one, and any place the wrong one to begin at."""
    name, content = case
    frame = bytearray(message_of(name, content).encode())
    del frame[: data.draw(st.integers(0, len(frame) - 1))]
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    texts = []
    try:
        CODECS[reader].decode(frame).validate()
    except iso8583.DecodeError as error:
        texts += error_texts(error)
    assert_no_secret(texts, content)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", NAMES)
def test_no_error_shows_a_card_number_that_lies_anywhere(name, reader):
    """Where the MTI, a length or a header should be, too."""
    secret = next(one for one in SECRETS[name] if one.kind == "pan")
    content = {secret: "123456789" * 2}
    frame = message_of(name, content).encode()
    for at in range(len(frame)):
        try:
            CODECS[reader].decode(frame[at:]).validate()
        except iso8583.DecodeError as error:
            assert_no_secret(error_texts(error), content)


@settings(max_examples=150)
@given(cases, st.sampled_from(["", "x", "1", "é"]), st.integers(0, 120))
def test_no_error_about_a_value_shows_card_data(case, wrong, count):
    name, content = case
    message = message_of(name, content)
    for secret, value in content.items():
        try:
            message[secret.path] = value + wrong * count
        except iso8583.EncodeError as error:
            assert_no_secret(error_texts(error), content)
