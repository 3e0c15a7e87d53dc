"""Messages as tests compare them."""

from collections.abc import Mapping

import iso8583


def specs_of_1987() -> list[str]:
    """The names of the specs that the switch can speak."""
    return [
        name
        for name in iso8583.spec_names()
        if 0 in iso8583.load_spec(name).version_digits
    ]


def content(message: iso8583.Message) -> dict[int | str, str]:
    """MTI and fields, without the message header that some specs have."""
    fields = message.to_dict()
    fields.pop("header", None)
    return fields


def fitting(spec: iso8583.Spec, fields: Mapping[int, str]) -> dict[int | str, str]:
    """The fields, those of a fixed length in that of the spec: 2003 has longer ones.
    With a request's MTI of its version."""
    found: dict[int | str, str] = {"mti": f"{spec.version_digits[0]}100"}
    for number, value in fields.items():
        field = spec.fields[number]
        if not field.prefix_digits and field.content == "n":
            value = value.zfill(field.length)
        elif not field.prefix_digits:
            value = value.ljust(field.length)
        found[number] = value
    return found
