"""How long certificates are good for, and for whom.

Every setting that names one is looked at, whichever server it is for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from switch.config import Config, settings_of
from switch.doctor.findings import Finding, error, ok, warning

DAYS_WARNED: Final = 30
_NAMES: Final = ("cert", "ca", "cert_file", "ca_file", "certificate_file")


def examine(config: Config, now: datetime | None = None) -> Iterator[Finding]:
    now = now or datetime.now(UTC)
    for path, value in settings_of(config).items():
        if path.rpartition(".")[2] in _NAMES and isinstance(value, str) and value:
            yield from _examine_file(path, Path(value), now)
    peer = config.cluster.peer
    if peer.cert:
        yield from _examine_names(Path(peer.cert), peer.listen.host)


def _load(path: Path) -> list[x509.Certificate]:
    """Raises OSError or ValueError."""
    return x509.load_pem_x509_certificates(path.read_bytes())


def _examine_file(setting: str, path: Path, now: datetime) -> Iterator[Finding]:
    try:
        found = _load(path)
    except OSError as fault:
        got = (fault.strerror or str(fault)).lower()
        yield error(setting, f"to read {path}", got, "put the file there")
        return
    except ValueError:
        yield error(setting, f"certificates in {path}", "none", "PEM is what it takes")
        return
    for certificate in found:
        yield _examine_dates(setting, certificate, now)


def _examine_dates(
    setting: str, certificate: x509.Certificate, now: datetime
) -> Finding:
    name = certificate.subject.rfc4514_string()
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    until = f"until {ends:%Y-%m-%d %H:%M} UTC"
    if now >= ends:
        return error(
            setting,
            f"a certificate of {name} that is valid now",
            f"one {until}",
            "renew it, and start the node again",
        )
    if now < begins:
        return error(
            setting,
            f"a certificate of {name} that is valid now",
            f"one from {begins:%Y-%m-%d %H:%M} UTC on",
            "is the clock right?",
        )
    if ends - now < timedelta(days=DAYS_WARNED):
        return warning(
            setting,
            f"a certificate of {name} for {DAYS_WARNED} days more",
            f"one {until}",
            "renew it",
        )
    return ok(setting, f"{name}, {until}")


def _examine_names(path: Path, host: str) -> Iterator[Finding]:
    """Other nodes ask for the host that this one listens at."""
    try:
        certificate, *_ = _load(path)
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except (OSError, ValueError):
        return  # said already
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    listed = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    if _plain(host) not in map(_plain, listed):
        yield error(
            "cluster.peer.cert",
            f"{host}, of cluster.peer.listen, among its names",
            ", ".join(listed) or "none",
            "other nodes will not take it: issue one with that name",
        )


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")
