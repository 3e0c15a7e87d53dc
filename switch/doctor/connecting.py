"""Whether somebody listens at an address, before it is asked anything."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Final

from switch.doctor.findings import Finding, error, ok
from switch.link.settings import Address

CONNECT_SECONDS: Final = 3.0


async def connected(
    check: str,
    address: Address,
    advice: str,
    *,
    tls: ssl.SSLContext | None = None,
) -> Finding:
    """Nothing is said to it; with `tls`, both sides have shown who they are."""
    expected = f"somebody at {address}"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(
                address.host, address.port, ssl=tls
            )
    except TimeoutError:
        got = f"no word within {CONNECT_SECONDS:g} s"
        return error(check, expected, got, advice)
    except ssl.SSLCertVerificationError as fault:
        return error(check, expected, fault.verify_message.lower(), "renew or replace")
    except (OSError, UnicodeError) as fault:  # the latter of a name that cannot be one
        got = (getattr(fault, "strerror", None) or str(fault)).lower()
        return error(check, expected, got, advice)
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            await writer.wait_closed()
    return ok(check, "there")
