"""An outside client: a card scheme's side of a link, written with pyiso8583.

    pyiso8583_client.py HOST PORT SPEC

SPEC is the name of one of pyiso8583's specifications. A line of standard input is a
JSON object of fields to send; the line of standard output that answers it has the
fields of the answer. It runs in an environment of its own, where `iso8583` is
pyiso8583, and knows nothing of the switch.
"""

import json
import socket
import sys

import iso8583
from iso8583 import specs

# Of pyiso8583's own: the header (always empty here) and the primary bitmap.
LEFT_OUT = ("h", "p", "1")


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise SystemExit("the connection has ended")
        data += more
    return data


def main() -> None:
    host, port, name = sys.argv[1:]
    spec = getattr(specs, name)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for line in sys.stdin:
            body, _ = iso8583.encode(json.loads(line), spec)
            connection.sendall(len(body).to_bytes(2, "big") + body)
            size = int.from_bytes(receive(connection, 2), "big")
            answer, _ = iso8583.decode(receive(connection, size), spec)
            fields = {k: v for k, v in answer.items() if k not in LEFT_OUT}
            print(json.dumps(fields), flush=True)


main()
