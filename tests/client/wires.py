"""The client on the application in process, with faults where a test wants them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from service.client import AsyncConcord, Concord
from tests.service.api import DESK, Api

URL = "http://service"


@dataclass
class Fault:
    """An attempt without an answer; ``carried_out`` when the service did the work all the same."""

    error: type[httpx.RequestError]
    carried_out: bool = False


LOST = Fault(httpx.ReadTimeout, carried_out=True)
CUT = Fault(httpx.RemoteProtocolError, carried_out=True)
REFUSED = Fault(httpx.ConnectError)


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The application as a transport; each fault, or answer in its stead, strikes one request."""

    def __init__(self, api: Api, faults: Iterable[Fault | httpx.Response]) -> None:
        self._api, self._faults = api, iter(faults)
        self.seen: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._api.run(self.handle_async_request(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fault = next(self._faults, None)
        self.seen.append(request.content)
        if isinstance(fault, httpx.Response):
            return httpx.Response(fault.status_code, headers=fault.headers, content=fault.content)
        if fault is not None and not fault.carried_out:
            raise fault.error("on purpose")
        reply = await self._api.request(
            request.method,
            request.url.raw_path.decode(),
            request.content,
            key=None,
            kind=None,
            headers=request.headers.items(),
        )
        if fault is not None:
            raise fault.error("on purpose")
        return httpx.Response(reply.status, headers=dict(reply.headers), content=reply.body)


class Awaited:
    """AsyncConcord, every call awaited: one test then serves both clients."""

    def __init__(self, api: Api, concord: AsyncConcord) -> None:
        self._api, self._concord = api, concord

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._concord, name)
        return lambda *given, **named: self._api.run(method(*given, **named))


@dataclass
class Line:
    """Connects clients of one kind to one application; ``wire`` is that of the last one."""

    api: Api
    kind: str
    wire: Wire

    def __call__(
        self,
        *faults: Fault | httpx.Response,
        key: str | None = DESK,
        retry_s_max: float = 5.0,
    ) -> Any:
        self.wire = Wire(self.api, faults)
        options: dict[str, Any] = {"transport": self.wire, "retry_s_max": retry_s_max}
        if self.kind == "sync":
            return Concord(URL, key, **options)
        return Awaited(self.api, AsyncConcord(URL, key, **options))
