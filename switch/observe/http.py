"""The HTTP face for operators: health, readiness, metrics, and an account's figures.

There is no authentication yet, so what is about accounts is given to this machine
only, whatever address is listened on, and only under a loopback name: a web page that
points a name of its own at this machine gets nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from switch.observe.log import event

_log = logging.getLogger("switch.http")

ReadAccount = Callable[[str], Awaitable[dict[str, Any] | None]]
# Why not ready (or not healthy), in words; empty when all is well.
Reasons = Callable[[], Sequence[str]]
# Links by name that no message can come by, and why; the others go on.
LinksDown = Callable[[], Mapping[str, str]]

# Longer than any account's name can be: refused before it is looked up.
ACCOUNT_NAME_SIZE_MAX = 64
# An answer under way when we stop; the operator's tools are on this machine.
SHUTDOWN_TIMEOUT_S = 2.0


class HttpError(Exception):
    """The HTTP address cannot be listened on; the message says which and why."""


def _no_reasons() -> Sequence[str]:
    return ()


class HttpServer:
    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        account: ReadAccount,
        not_ready: Reasons,
        not_healthy: Reasons = _no_reasons,
        links_down: LinksDown = dict,
    ) -> None:
        self._host, self._port = host, port
        self._registry = registry
        self._account = account
        self._not_ready, self._not_healthy = not_ready, not_healthy
        self._links_down = links_down
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port listened on, also when the system chose it."""
        assert self._runner is not None
        assert self._runner.addresses
        port: int = self._runner.addresses[0][1]
        return port

    async def start(self) -> None:
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise HttpError(self._explain(error)) from None
        self._runner = runner
        event(_log, logging.INFO, "listening", host=self._host, port=self.port)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _explain(self, error: OSError) -> str:
        address = f"http address {self._host}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            return f"{address}: already in use by another process; give a free one"
        reason = (error.strerror or str(error)).lower()
        return f"{address}: cannot be listened on: {reason}"

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[_errors_as_json])
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/api/accounts/{account}", self._get_account)
        return application

    async def _healthz(self, _request: web.Request) -> web.Response:
        reasons = list(self._not_healthy())
        return _json(
            {"healthy": not reasons, "reasons": reasons}, 503 if reasons else 200
        )

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = list(self._not_ready())
        content: dict[str, Any] = {"ready": not reasons, "reasons": reasons}
        if down := self._links_down():
            content["links_down"] = dict(down)
        return _json(content, 503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(
            body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )

    async def _get_account(self, request: web.Request) -> web.Response:
        if not (_is_loopback(request.remote) and _is_loopback(_host_name(request))):
            return _error(403, "expected a request from this machine, by its address")
        name = request.match_info["account"]
        found = None
        if len(name) <= ACCOUNT_NAME_SIZE_MAX:
            found = await self._account(name)
        if found is None:
            # The name is not repeated: it may be a card number, pasted by mistake.
            return _error(404, "expected an account that exists, got another name")
        return _json(found)


def _json(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(
        content, status=status, headers={"Cache-Control": "no-store"}
    )


def _error(status: int, message: str) -> web.Response:
    return _json({"error": {"status": status, "message": message}}, status)


def _host_name(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.host}").hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@web.middleware
async def _errors_as_json(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _error(error.status, error.reason.lower())
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets JSON
        event(_log, logging.ERROR, "request failed", error=error)
        return _error(500, "an unexpected error; the log has it")
