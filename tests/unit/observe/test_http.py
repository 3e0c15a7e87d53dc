from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from types import MappingProxyType

import aiohttp
import pytest
from aiohttp import web

from switch.observe.http import (
    HttpError,
    HttpServer,
    is_from_this_machine,
    json_response,
)
from switch.observe.metrics import make_registry


class Faces:
    reasons: tuple[str, ...] = ()
    sick: tuple[str, ...] = ()
    details: Mapping[str, object] = MappingProxyType({})

    async def local(self, request):
        local = is_from_this_machine(request)
        return json_response({"local": local}, 200 if local else 403)

    async def broken(self, _request):
        raise RuntimeError("4000001234567899")

    def server(self, port=0):
        registry, _ = make_registry("1")
        return HttpServer(
            "127.0.0.1",
            port,
            registry=registry,
            routes=[web.get("/local", self.local), web.get("/broken", self.broken)],
            not_ready=lambda: self.reasons,
            not_healthy=lambda: self.sick,
            details=lambda: self.details,
        )


def run(ask, faces=None):
    """Starts the server, awaits `ask(get)`, stops it."""
    faces = faces or Faces()

    async def main():
        server = faces.server()
        await server.start()
        try:
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{server.port}"
            ) as client:

                async def get(path, **options):
                    method = options.pop("method", "GET")
                    async with client.request(method, path, **options) as answer:
                        text = await answer.text()
                        is_json = answer.content_type == "application/json"
                        body = await answer.json() if is_json else text
                        return answer.status, body

                return await ask(get)
        finally:
            await server.stop()

    return asyncio.run(main())


def test_what_somebody_should_look_at_is_told_whether_or_not_it_is_ready():
    faces = Faces()
    down = {"out": "connection refused"}
    faces.details = {"links_down": down, "follower": "the follower is not running"}

    async def ask(get):
        first = await get("/readyz")
        faces.reasons = ("link out: connection refused",)
        return first, await get("/readyz")

    (well, ready), (ill, not_ready) = run(ask, faces)
    assert (well, ready["ready"], ill, not_ready["ready"]) == (200, True, 503, False)
    assert ready == {"ready": True, "reasons": [], **faces.details}
    assert not_ready["links_down"] == down
    assert not_ready["follower"] == "the follower is not running"


def test_health_readiness_and_why_not():
    faces = Faces()

    async def ask(get):
        first = await get("/healthz"), await get("/readyz")
        faces.reasons = ("journal: recovering", "link: not listening")
        faces.sick = ("journal: the disk is full",)
        return first, (await get("/healthz"), await get("/readyz"))

    well, ill = run(ask, faces)
    assert well == (
        (200, {"healthy": True, "reasons": []}),
        (200, {"ready": True, "reasons": []}),
    )
    assert ill == (
        (503, {"healthy": False, "reasons": ["journal: the disk is full"]}),
        (503, {"ready": False, "reasons": list(faces.reasons)}),
    )


def test_metrics_are_prometheus_text():
    status, body = run(lambda get: get("/metrics"))
    assert status == 200
    assert 'switch_build_info{version="1"} 1.0' in body


def test_what_is_not_there_is_said_as_json():
    async def ask(get):
        return [await get("/nowhere"), await get("/healthz", method="POST")]

    answers = run(ask)
    assert [status for status, _ in answers] == [404, 405]
    for status, body in answers:
        assert body["error"]["status"] == status


def test_an_unexpected_error_is_json_and_tells_nothing(caplog):
    status, body = run(lambda get: get("/broken"))
    assert status == 500
    assert body == {
        "error": {"status": 500, "message": "an unexpected error; the log has it"}
    }
    assert "request failed" in caplog.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:8580", 403),
        ("[::1]:8580", 200),
        ("localhost", 200),
        ("[::ffff:127.0.0.1]", 200),
        ("10.0.0.1", 403),
    ],
)
def test_this_machine_is_known_under_a_loopback_name_only(host, status):
    answer = run(lambda get: get("/local", headers={"Host": host}))
    assert answer[0] == status


def test_a_port_in_use_is_said_plainly():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            HttpError, match=f"http address 127.0.0.1:{port}: already in use"
        ):
            asyncio.run(Faces().server(port).start())
