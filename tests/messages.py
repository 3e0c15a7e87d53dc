"""Messages as tests compare them."""

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
