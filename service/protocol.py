"""uvicorn's HTTP protocol with bounds on what comes before a body. Imports uvicorn.

Its fast parser has none: without a key a caller could fill the memory with one endless header, or
hold connections that never ask anything.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 65_536
"""Most bytes of a request's line and headers, beside the first piece that arrived of them."""
HEAD_S_MAX = 20.0
"""Longest time from a connection, or a request's first byte, to the end of its headers."""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request does not get to its body."""

    _patience: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller is there and must ask something."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        self._head_is_there()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The body follows, which routes.py bounds."""
        self._head_is_there()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some bytes; those of a head are counted from its second piece on."""
        expected = self._patience
        super().data_received(data)
        if expected is None or self._patience is not expected or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response(f"Send at most {HEAD_BYTES_MAX} bytes of headers.")

    def _expect_head(self) -> None:
        self._head_is_there()
        self._patience = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _head_is_there(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience, self._head_bytes = None, 0
