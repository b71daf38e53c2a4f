"""Connections that never ask anything do not stay."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn

from service import protocol


async def _app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("no request was complete")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S_MAX", 0.1)

    async def silent() -> bytes:
        config = uvicorn.Config(_app, http=protocol.BoundedHttp, lifespan="off")
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: protocol.BoundedHttp(config, state, {}), "127.0.0.1"
        )
        async with server:
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(sent)
            rest = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return rest

    assert asyncio.run(silent()) == b""
