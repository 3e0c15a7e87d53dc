"""iso8583sim, to be asked as serving.py says. It runs in an environment of its own."""

import importlib.metadata
import sys

import message
from iso8583sim.core.builder import ISO8583Builder
from iso8583sim.core.parser import ISO8583Parser
from iso8583sim.core.types import ISO8583Message
from serving import serve

# It has no lazy decode. What it is given without a wire format is this very one.
DECODE = "fields = decode(data).fields"
ENCODE = "encode(Message(mti=mti, fields={0: mti, **fields}))"
OPERATIONS = {
    "decode": DECODE,
    "read": f"{DECODE}; fields[0]; "
    + "; ".join(f"fields[{number}]" for number in message.READ),
    "dict": DECODE,
    "encode": ENCODE,
    # It takes the card's prefix for a network, whose rules then refuse the request.
    "change": "m = decode(data); m.fields[11] = changed; m.network = None; encode(m)",
}


def main() -> None:
    data = bytes.fromhex(sys.argv[1])
    names = {
        "decode": ISO8583Parser().parse_bytes,
        "encode": ISO8583Builder().build_bytes,
        "Message": ISO8583Message,
        "data": data,
        "fields": message.FIELDS,
        "mti": message.MTI,
        "changed": message.CHANGED,
    }
    assert names["decode"](data).fields == {0: message.MTI, **message.FIELDS}
    assert eval(ENCODE, names) == data
    serve(importlib.metadata.version("iso8583sim"), OPERATIONS, names)


if __name__ == "__main__":
    main()
