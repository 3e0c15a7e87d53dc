"""pyiso8583, to be asked as serving.py says. It runs in an environment of its own."""

import importlib.metadata
import sys

import message
from serving import serve

import iso8583
import iso8583.specs

# It has no lazy decode.
DECODE = "document, _ = decode(data, spec)"
OPERATIONS = {
    "decode": DECODE,
    "read": f"{DECODE}; document['t']; "
    + "; ".join(f"document['{number}']" for number in message.READ),
    "dict": DECODE,
    "encode": "encode(fields, spec)",
    "change": f"{DECODE}; document['11'] = changed; encode(document, spec)",
}


def main() -> None:
    data, fields = bytes.fromhex(sys.argv[1]), message.document()
    decoded, _ = iso8583.decode(data, iso8583.specs.default)
    del decoded["p"]
    assert decoded == fields
    assert iso8583.encode(fields, iso8583.specs.default)[0] == data
    names = {
        "decode": iso8583.decode,
        "encode": iso8583.encode,
        "spec": iso8583.specs.default,
        "data": data,
        "fields": fields,
        "changed": message.CHANGED,
    }
    serve(importlib.metadata.version("pyiso8583"), OPERATIONS, names)


if __name__ == "__main__":
    main()
