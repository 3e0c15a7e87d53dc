"""The asyncio server of docs/codec.md, as it stands on the page."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import iso8583

PAGE = Path(__file__).parents[3] / "docs/codec.md"
CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
FIELDS = {2: "9999990000000014", 4: "000000001500", 11: "000017", 49: "978"}
REQUEST = CODEC.encode({**FIELDS, "mti": "0100"})


def framed(body):
    return len(body).to_bytes(2, "big") + body


@pytest.fixture(scope="module")
def page():
    (text,) = re.findall(
        r"### In an asyncio service\n.*?```python\n(.*?)```",
        PAGE.read_text(),
        re.DOTALL,
    )
    names: dict[str, Any] = {}
    exec(compile(text, str(PAGE), "exec"), names)
    return names


def talk(page, *pieces, count):
    """The first replies to what is sent in pieces; fewer if it hangs up before."""

    async def talking():
        server = await page["serve"]("127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            replies = []
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                for _ in range(count):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    replies.append(CODEC.decode(await reader.readexactly(size)))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            writer.close()
        return replies

    return asyncio.run(talking())


def test_every_request_is_answered_however_its_bytes_come(page):
    data = framed(REQUEST) * 3
    pieces = [data[:1], data[1:40], data[40:]]
    replies = talk(page, *pieces, count=3)
    wanted = CODEC.message({**FIELDS, "mti": "0110", 39: "00"})
    assert replies == [wanted] * 3


def test_a_broken_request_is_answered_with_a_format_error(page):
    (reply,) = talk(page, framed(REQUEST[:-1]), count=1)
    read = [(number, FIELDS[number]) for number in (2, 4, 11)]
    assert list(reply.to_dict().items()) == [("mti", "0110"), *read, (39, "30")]


@pytest.mark.parametrize("body", [b"no message", CODEC.encode({"mti": "0110"}), b""])
def test_what_nobody_answers_ends_the_connection(page, body):
    assert talk(page, framed(body), framed(REQUEST), count=1) == []
