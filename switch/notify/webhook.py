"""One HTTP request for one push, signed.

    Switch-Id: 16-3                  the push's id: go by it, it may come again
    Switch-Timestamp: 1764028800     seconds since 1970, of this request
    Switch-Signature: v1=HEX         HMAC-SHA256 by the secret of TIMESTAMP.BODY

Rule 1: the signature is of the bytes that are sent, and of the time at which they are,
        so that neither can be changed, nor a request sent again much later by others.
Rule 2: taken is what was answered 2xx; whatever else comes, or nothing in time, is not.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

import aiohttp

ID_HEADER: Final = "Switch-Id"
TIMESTAMP_HEADER: Final = "Switch-Timestamp"
SIGNATURE_HEADER: Final = "Switch-Signature"
TAKEN: Final = range(200, 300)


class NotTakenError(Exception):
    """What was expected, what came."""


def signature_of(secret: bytes, timestamp: int, body: bytes) -> str:
    signed = b"%d." % timestamp + body
    return "v1=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


class Webhook:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        secret: bytes,
        timeout_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._url = url
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    async def post(self, push_id: str, body: bytes) -> None:
        """Raises NotTakenError."""
        timestamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            ID_HEADER: push_id,
            TIMESTAMP_HEADER: str(timestamp),
            SIGNATURE_HEADER: signature_of(self._secret, timestamp, body),
        }
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        try:
            async with self._session.post(
                self._url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                status = answer.status
        except TimeoutError:
            raise NotTakenError(
                f"expected an answer, got none within {self._timeout_seconds:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            got = str(error) or type(error).__name__
            raise NotTakenError(f"expected an answer, got {got}") from error
        if status not in TAKEN:
            raise NotTakenError(f"expected an answer 2xx, got {status}")
