"""Our codec, to be asked as serving.py says."""

import importlib.metadata

import iso8583
from bench.codec import message
from bench.codec.serving import serve

OPERATIONS = {
    "decode": "decode(data)",
    "read": "m = decode(data); m.mti; " + "; ".join(f"m[{n}]" for n in message.READ),
    "dict": "decode(data).to_dict()",
    "encode": "encode(fields)",
    "change": "m = decode(data); m[11] = changed; encode(m)",
    "validate": "decode(data).validate()",
    "document decode": "document_decode(data, document_spec)",
    "document encode": "document_encode(document, document_spec)",
}


def main() -> None:
    codec = iso8583.Codec(iso8583.load_spec(message.SPEC))
    fields = message.request()
    data = codec.encode(fields)
    assert codec.decode(data).to_dict() == fields
    names = {
        "decode": codec.decode,
        "encode": codec.encode,
        "data": data,
        "fields": fields,
        "changed": message.CHANGED,
        "document": message.document(),
        "document_decode": iso8583.decode,
        "document_encode": iso8583.encode,
        "document_spec": iso8583.specs.default,
    }
    serve(importlib.metadata.version("cardswitch"), OPERATIONS, names)


if __name__ == "__main__":
    main()
