"""The HTTP server: health, readiness and metrics, and the routes that it is given.

What is given to this machine only is so whatever address is listened on, and only under
a loopback name: a web page that points a name of its own at this machine gets nothing.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from switch.observe.listening import why_not_listening
from switch.observe.log import event

_log = logging.getLogger("switch.http")

# Why not ready (or not healthy), in words; empty when all is well.
Reasons = Callable[[], Sequence[str]]
# What else `/readyz` tells: it does not make us unready, but somebody should look.
Details = Callable[[], Mapping[str, object]]

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
        not_ready: Reasons,
        not_healthy: Reasons = _no_reasons,
        details: Details = dict,
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        self._host, self._port = host, port
        self._registry = registry
        self._not_ready, self._not_healthy = not_ready, not_healthy
        self._details = details
        self._routes = tuple(routes)
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
            address = f"http address {self._host}:{self._port}"
            raise HttpError(why_not_listening(address, error)) from None
        self._runner = runner
        event(_log, logging.INFO, "listening", host=self._host, port=self.port)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[_errors_as_json])
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_routes(self._routes)
        return application

    async def _healthz(self, _request: web.Request) -> web.Response:
        reasons = list(self._not_healthy())
        return json_response(
            {"healthy": not reasons, "reasons": reasons}, 503 if reasons else 200
        )

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = list(self._not_ready())
        content = {"ready": not reasons, "reasons": reasons, **self._details()}
        return json_response(content, 503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(
            body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )


def json_response(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(
        content, status=status, headers={"Cache-Control": "no-store"}
    )


def error_response(status: int, message: str, **more: Any) -> web.Response:
    content = {"error": {"status": status, "message": message, **more}}
    response = json_response(content, status)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def is_from_this_machine(request: web.Request) -> bool:
    return _is_loopback(request.remote) and _is_loopback(_host_name(request))


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
        response = error_response(error.status, error.reason.lower())
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets JSON
        event(_log, logging.ERROR, "request failed", error=error)
        return error_response(500, "an unexpected error; the log has it")
