"""Where nodes listen for each other, and how they reach each other: TCP, with TLS on
both sides unless there are no certificates."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from switch.link.settings import Address
from switch.peer.answering import Answering
from switch.peer.connection import PeerConnection
from switch.peer.errors import PeerError
from switch.peer.port import Dial

BACKLOG = 64


class Certificates(Struct, frozen=True):
    """Files, PEM. A node is who its certificate says, and takes only those of `ca`."""

    cert: str
    key: str
    ca: str


def contexts(files: Certificates) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For those who connect to us, and for those to whom we do. Raises PeerError.

    A certificate that has expired is refused here: a node with it would own shards
    that no other node can reach.
    """
    try:
        made = []
        for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
            context = ssl.create_default_context(purpose, cafile=files.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(files.cert, files.key)
            made.append(context)
    except OSError as error:  # what ssl raises is one
        raise PeerError(
            f"certificates of nodes: expected those of {files.cert}, {files.key} and "
            f"{files.ca}, got {str(error).lower()}"
        ) from None
    _expect_valid(files.cert)
    return made[0], made[1]


def _expect_valid(file: str) -> None:
    certificate, *_ = x509.load_pem_x509_certificates(Path(file).read_bytes())
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= datetime.now(UTC) < ends:
        raise PeerError(
            f"certificate {file}: expected one that is valid now, got one from "
            f"{begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
        )


async def listen(
    answering: Answering, address: Address, context: ssl.SSLContext | None
) -> asyncio.Server:
    """Raises PeerError."""
    try:
        return await asyncio.get_running_loop().create_server(
            answering.accept,
            address.host,
            address.port,
            backlog=BACKLOG,
            ssl=context,
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PeerError(f"cannot listen for nodes on {address}: {reason}") from None


def dial_to(address: str, context: ssl.SSLContext | None) -> Dial:
    """See `switch.peer.port.Dial`."""
    to = Address.parse(address)

    async def dial(node: str, connection: PeerConnection) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: connection, to.host, to.port, ssl=context
        )

    return dial
