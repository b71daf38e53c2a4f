"""One attempt over the network, blocking or not. The only module that imports httpx.

Nothing is taken from the environment: a proxy or a certificate file that a shell happens to name
must not decide where orders go. Give a ``transport`` of httpx for a proxy.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from service import __version__
from service.client.commands import Command
from service.client.errors import BadInput, ProtocolError
from service.client.reading import Answer
from service.client.retries import InDoubt, definite

BaseTransport: TypeAlias = httpx.BaseTransport
AsyncBaseTransport: TypeAlias = httpx.AsyncBaseTransport
Verify: TypeAlias = bool | str | Path | ssl.SSLContext
Cert: TypeAlias = str | Path | tuple[str | Path, str | Path]
TIMEOUT_S = 10.0
# of our own making: sent again they would fail again
_OURS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Options:
    """Where the service is and how to reach it; see :class:`service.client.Concord`."""

    base_url: str
    key: str | None = None
    timeout_s: float = TIMEOUT_S
    verify: Verify = True
    cert: Cert | None = None

    def settings(self) -> dict[str, Any]:
        """Arguments of an httpx client."""
        return {
            "base_url": _address(self.base_url),
            "headers": _headers(self.key),
            "timeout": self.timeout_s,
            "verify": _trust(self.verify, self.cert),
            "trust_env": False,
        }


class Link:
    """Blocking attempts over one pool of connections."""

    def __init__(self, options: Options, transport: httpx.BaseTransport | None) -> None:
        self._client = httpx.Client(**options.settings(), transport=transport)

    def once(self, command: Command[Any]) -> Answer:
        """The answer to one attempt; raises InDoubt or ProtocolError."""
        begun = time.perf_counter()
        with _doubting(command):
            reply = self._client.request(command.method, command.path, content=command.content)
        return _answer(reply, begun)

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()


class AsyncLink:
    """The same without blocking, on the event loop of its first use."""

    def __init__(self, options: Options, transport: httpx.AsyncBaseTransport | None) -> None:
        self._client = httpx.AsyncClient(**options.settings(), transport=transport)

    async def once(self, command: Command[Any]) -> Answer:
        """The answer to one attempt; raises InDoubt or ProtocolError."""
        begun = time.perf_counter()
        with _doubting(command):
            sent = self._client.request(command.method, command.path, content=command.content)
            reply = await sent
        return _answer(reply, begun)

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.aclose()


@contextmanager
def _doubting(command: Command[Any]) -> Iterator[None]:
    """Errors of httpx as what they mean for the command."""
    try:
        yield
    except _OURS as error:
        raise BadInput(f"{command}: {error}") from error
    except httpx.TransportError as error:
        raise InDoubt(f"{type(error).__name__}: {error}") from error
    except httpx.RequestError as error:
        raise ProtocolError(str(command), 0, f"unreadable ({error})") from error


def _answer(reply: httpx.Response, begun: float) -> Answer:
    elapsed_s = time.perf_counter() - begun
    return definite(Answer(reply.status_code, dict(reply.headers), reply.content, elapsed_s))


def _address(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadInput(f"base_url {base_url!r}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise BadInput(f"base_url {base_url!r}: write it as https://host:port")
    return url


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": f"concord-client/{__version__}"}
    if key is not None:
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise BadInput("the key holds spaces or line ends; strip what a file gave")
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _trust(verify: Verify, cert: Cert | None) -> ssl.SSLContext:
    """Whom to believe, and how to prove who calls."""
    try:
        context = _authorities(verify)
        if cert is not None:
            context.load_cert_chain(*(cert if isinstance(cert, tuple) else (cert,)))
    except OSError as error:  # and so an error of ssl
        raise BadInput(f"verify or cert cannot be used, give PEM files: {error}") from error
    return context


def _authorities(verify: Verify) -> ssl.SSLContext:
    if isinstance(verify, bool | ssl.SSLContext):
        return httpx.create_ssl_context(verify, trust_env=False)
    if Path(verify).is_dir():
        return ssl.create_default_context(capath=verify)
    return ssl.create_default_context(cafile=verify)
