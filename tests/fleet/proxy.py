"""A TCP proxy that gives every request, not every connection, to the next worker in turn.

The worst proxy for whoever hopes for sticky sessions. It repeats nothing: a worker that is gone
costs the caller its connection, as a proxy without retries does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LOST = (OSError, asyncio.IncompleteReadError, ValueError)
"""What a connection that is gone looks like."""


class RoundRobin:
    """Listens on a port of its own and spreads requests over ``ports``."""

    def __init__(self, ports: list[int]) -> None:
        self._next = cycle(enumerate(ports))
        self._idle: dict[int, list[Streams]] = {port: [] for port in ports}
        self._callers: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve until the end of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            serving = [task for task in self._callers.values() if task is not None]
            for writer in [*self._callers, *(w for idle in self._idle.values() for _, w in idle)]:
                writer.close()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers[writer] = asyncio.current_task()
        try:
            while True:
                request = await read_message(reader)
                number, port = next(self._next)
                reply = await self._forward(port, b"".join(request))
                line, _, rest = reply[0].partition(b"\r\n")
                writer.write(b"%s\r\nx-worker: %d\r\n%s%s" % (line, number, rest, reply[1]))
                await writer.drain()
        except LOST:
            pass  # either side is gone: so is the other
        finally:
            self._callers.pop(writer, None)
            writer.close()

    async def _forward(self, port: int, request: bytes) -> tuple[bytes, bytes]:
        streams = self._idle[port].pop() if self._idle[port] else None
        reader, writer = streams or await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            reply = await read_message(reader)
        except BaseException:
            writer.close()
            raise
        self._idle[port].append((reader, writer))
        return reply


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one HTTP message whose length is declared."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("a head of no end") from error
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    length = int(rest.split(b"\r\n")[0]) if found else 0
    return head, await reader.readexactly(length)
