"""The plain rival: an authorisation server as one writes it first, with asyncio,
streams, a dictionary of balances and pyiso8583. It is no straw man: requests are
pipelined, and it makes durable what it answers by group commit, as the switch does.
What it lacks is the rest: duplicates, reversals, recovery, publishing, masking.

    plain.py PORT FILE CARDS

It runs in an environment of its own, where `iso8583` is pyiso8583.
"""

import asyncio
import csv
import json
import os
import signal
import sys
from pathlib import Path

import iso8583
from iso8583.specs import default_ascii

BALANCE = 10**11

balances: dict[str, int] = {}
expiries: dict[str, str] = {}


class Journal:
    """What arrives while one fdatasync is in flight is the next one's batch."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.pending: list[tuple[bytes, bytes, asyncio.StreamWriter]] = []
        self.wanted = asyncio.Event()
        self.message_count = 0

    def add(self, entry: bytes, reply: bytes, writer: asyncio.StreamWriter) -> None:
        self.pending.append((entry, reply, writer))
        self.wanted.set()

    def commit(self, entries: bytes) -> None:
        os.write(self.file, entries)
        os.fdatasync(self.file)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            batch, self.pending = self.pending, []
            entries = b"".join(entry for entry, _, _ in batch)
            await loop.run_in_executor(None, self.commit, entries)
            replies: dict[asyncio.StreamWriter, list[bytes]] = {}
            for _, reply, writer in batch:
                replies.setdefault(writer, []).append(reply)
            for writer, frames in replies.items():
                writer.write(b"".join(frames))
            self.message_count += len(batch)


ECHOED = ("2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49")


def authorise(request: dict[str, str]) -> dict[str, str]:
    reply = {field: request[field] for field in ECHOED if field in request}
    reply["t"] = "0110"
    pan = request["2"]
    amount = int(request["4"])
    if pan not in balances:
        reply["39"] = "14"
    elif expiries[pan] != request["14"]:
        reply["39"] = "54"
    elif balances[pan] < amount:
        reply["39"] = "51"
    else:
        balances[pan] -= amount
        reply["38"] = request["11"]
        reply["39"] = "00"
    return reply


def answer(frame: bytes) -> tuple[bytes, bytes]:
    """The journal's entry and the reply."""
    request, _ = iso8583.decode(frame, default_ascii)
    if request["t"] == "0800":
        reply = {field: request[field] for field in ("7", "11", "70")}
        reply |= {"t": "0810", "39": "00"}
    else:
        reply = authorise(request)
    encoded, _ = iso8583.encode(reply, default_ascii)
    # The entry: what was asked, and what was answered.
    return frame + encoded, len(encoded).to_bytes(2, "big") + encoded


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, journal: Journal
) -> None:
    try:
        while True:
            header = await reader.readexactly(2)
            frame = await reader.readexactly(int.from_bytes(header, "big"))
            entry, reply = answer(frame)
            journal.add(entry, reply, writer)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        writer.close()


def load_cards(path: str) -> None:
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            balances[row["pan"]] = BALANCE
            expiries[row["pan"]] = row["expiry"]


async def main() -> None:
    port, path, cards = sys.argv[1:]
    load_cards(cards)
    journal = Journal(path)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    committing = asyncio.create_task(journal.run())
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, journal), "127.0.0.1", int(port)
    )
    async with server:
        await stop.wait()
    committing.cancel()
    print(json.dumps({"messages": journal.message_count}))


asyncio.run(main())
