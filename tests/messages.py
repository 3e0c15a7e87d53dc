"""Messages as tests compare them."""

import iso8583


def content(message: iso8583.Message) -> dict[int | str, str]:
    """MTI and fields, without the message header that some specs have."""
    fields = message.to_dict()
    fields.pop("header", None)
    return fields
