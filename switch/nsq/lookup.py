"""Which nsqd have a topic, as nsqlookupd says."""

from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from switch.nsq.errors import NsqConnectionError

ANSWER_BYTES_MAX: Final = 1 << 20
NOT_FOUND: Final = 404
OK: Final = 200


class _Nsqd(msgspec.Struct):
    broadcast_address: str
    tcp_port: int


class _Answer(msgspec.Struct):
    producers: list[_Nsqd] = []


async def hosts_of(
    topic: str, lookupd: Sequence[str], session: aiohttp.ClientSession, seconds: float
) -> set[str]:
    """All that any of them knows. Raises NsqConnectionError when none answers."""
    found: set[str] = set()
    errors: list[str] = []
    for host in lookupd:
        try:
            found |= await _ask(topic, host, session, seconds)
        except NsqConnectionError as error:
            errors.append(str(error))
    if lookupd and len(errors) == len(lookupd):
        raise NsqConnectionError("; ".join(errors))
    return found


async def _ask(
    topic: str, host: str, session: aiohttp.ClientSession, seconds: float
) -> set[str]:
    url = f"http://{host}/lookup"
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.get(
            url,
            params={"topic": topic},
            headers={"Accept": "application/vnd.nsq; version=1.0"},
            timeout=timeout,
            allow_redirects=False,
        ) as answer:
            if answer.status == NOT_FOUND:  # nobody has it yet
                return set()
            if answer.status != OK:
                raise NsqConnectionError(
                    f"expected nsqlookupd at {host} to answer {OK}, got {answer.status}"
                )
            data = await answer.content.read(ANSWER_BYTES_MAX)
            found = msgspec.json.decode(data, type=_Answer)
    except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
        raise NsqConnectionError(
            f"expected nsqlookupd at {host}, got {str(error) or type(error).__name__}"
        ) from error
    return {
        f"[{each.broadcast_address}]:{each.tcp_port}"
        if ":" in each.broadcast_address
        else f"{each.broadcast_address}:{each.tcp_port}"
        for each in found.producers
    }
