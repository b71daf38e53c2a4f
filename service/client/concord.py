"""The client: one method per call of docs/api.md, blocking or awaited."""

from __future__ import annotations

from typing import Any, Self, Unpack

from service.client import commands, reading, replies, reports, retries
from service.client.commands import Close, Command, OpenDay, ReplyT, Rows, Step
from service.client.errors import ConcordError
from service.client.replies import Probe
from service.client.retries import RETRY_S_MAX, InDoubt
from service.client.transport import (
    TIMEOUT_S,
    AsyncBaseTransport,
    AsyncLink,
    BaseTransport,
    Cert,
    Link,
    Options,
    Verify,
)


class Concord:
    """A service and an API key; use it as a context manager, from as many threads as you like.

    ``base_url`` may have a path of its own (a service behind a proxy). ``key`` is ``<key id>.
    <secret>``; probes need none. ``timeout_s`` limits connecting, sending and each wait for data of
    one attempt; no attempt begins later than ``retry_s_max`` seconds after the first (0: only one).
    ``verify`` is True for public authorities, the path of a file or folder of authorities, or an
    ``ssl.SSLContext``; ``cert`` the path of a client certificate with its key, or of both.
    ``transport`` is one of httpx, for proxies and tests.

    Every call but the probes raises ``Refused`` (4xx: nothing was changed), ``Failed`` (500),
    ``Unavailable`` (in doubt after all attempts: the same call again is safe), ``ProtocolError``
    (not an answer of this service) or ``BadInput`` (cannot be sent). service/client/errors.py shows
    the tree, service/client/retries.py says why repeating is safe.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retry_s_max: float = RETRY_S_MAX,
        verify: Verify = True,
        cert: Cert | None = None,
        transport: BaseTransport | None = None,
    ) -> None:
        self._link = Link(Options(base_url, key, timeout_s, verify, cert), transport)
        self._retry_s_max = retry_s_max

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Drop the connections; days stay as they are."""
        self._link.close()

    def send(self, command: Command[ReplyT]) -> ReplyT:
        """Carry out a command of service/client/commands.py, with the bytes that it holds."""
        repeating = retries.repeating(command, self._retry_s_max)
        answer = repeating(self._link.once, command)
        return reading.read(command, answer, retries.attempts(repeating))

    def open_day(self, day_id: str, **fields: Unpack[OpenDay]) -> replies.Day:
        """Open a day: ``account``, ``currency``, ``schedule``, ``cash_minor``, ``orders``, ...

        ``orders`` and ``reference`` are columns of any kind. Conflict BODY_CHANGED where the day
        was opened with other bytes, Invalid for what docs/errors.md lists under 422.
        """
        return self.send(commands.open_day(day_id, **fields))

    def day(self, day_id: str) -> replies.Day:
        """The state of a day; NotFound where this client has none of this name."""
        return self.send(commands.day(day_id))

    def step(self, day_id: str, n: int, **fields: Unpack[Step]) -> replies.Decision:
        """Take decision ``n`` (from 1, without gaps) on the ``snapshot`` seen at ``as_of``.

        ``executions`` are the broker's reports since the last call. Conflict STEP_GAP, with
        ``extra["expected_step"]``, for any but the next step or one that was taken.
        """
        return self.send(commands.step(day_id, n, **fields))

    def decision(self, day_id: str, n: int) -> replies.Record:
        """The recorded decision ``n`` with its exchange; NotFound before it is taken."""
        return self.send(commands.decision(day_id, n))

    def executions(self, day_id: str, reported: Rows) -> replies.Bookings:
        """Book executions between steps or after the close, each ``exec_id`` once.

        Invalid BAD_EXECUTION where one contradicts the book: nothing of the list was booked then.
        """
        return self.send(commands.executions(day_id, reported))

    def instructions(self, day_id: str, instruction_id: str, **fields: Any) -> replies.Instructed:
        """Change the orders of an open day, once per ``instruction_id``; the fields go as given.

        Conflict where an order is not in a state for it: nothing of the instructions was done then.
        """
        return self.send(commands.instructions(day_id, instruction_id, **fields))

    def close(self, day_id: str, **fields: Unpack[Close]) -> reports.Report:
        """Close a day and answer its report; a paper day with working children needs ``snapshot``.

        Conflict DAY_CLOSED where it was closed with other bytes; ask for ``report`` then.
        """
        return self.send(commands.close(day_id, **fields))

    def report(self, day_id: str) -> reports.Report:
        """The report of a closed day again; NotFound before the close."""
        return self.send(commands.report(day_id))

    def log(self, day_id: str) -> reports.Log:
        """Every command of a day with its bytes: keep ``raw`` as the desk's record."""
        return self.send(commands.log(day_id))

    def set_day_state(self, day_id: str, state: str) -> replies.State:
        """ACTIVE, REDUCING or HALTED for one day (scope halt); repeated as :meth:`set_state`."""
        return self.send(commands.set_day_state(day_id, state))

    def set_state(self, state: str) -> replies.State:
        """ACTIVE, REDUCING or HALTED for all days of this client (scope halt).

        The last state to arrive holds, so only HALTED is repeated when in doubt. After Unavailable
        for another state look who set what meanwhile before you set it again.
        """
        return self.send(commands.set_state(state))

    def set_service_state(self, state: str) -> replies.State:
        """The same for every client (scope admin)."""
        return self.send(commands.set_service_state(state))

    def day_state(self, day_id: str) -> replies.State:
        """The trading state set for a day itself; ``day`` tells the strictest that holds."""
        return self.send(commands.day_state(day_id))

    def state(self) -> replies.State:
        """The one that was set for all days of this client."""
        return self.send(commands.state())

    def service_state(self) -> replies.State:
        """The one that was set for every client."""
        return self.send(commands.service_state())

    def models(self) -> reports.Models:
        """What decides: every version that is loaded."""
        return self.send(commands.models())

    def reload_models(self) -> reports.Models:
        """Load what the models folder lists now (scope admin); Conflict MODEL_REFUSED where it may
        not serve: nothing was changed then."""
        return self.send(commands.reload_models())

    def health(self) -> Probe:
        """Whether the process answers, asked once; raises nothing."""
        return self._probe(commands.LIVE)

    def ready(self) -> Probe:
        """Whether it takes commands: policies loaded, store safe. Asked once; raises nothing."""
        return self._probe(commands.READY)

    def _probe(self, command: Command[replies.Reply]) -> Probe:
        try:
            return reading.probe(self._link.once(command))
        except (InDoubt, ConcordError) as error:
            return Probe(False, str(error))


class AsyncConcord:
    """:class:`Concord` for asyncio: the same arguments, calls, replies and errors, awaited.

    Calls may run at once, but those of one day follow each other: a step needs the one before it.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retry_s_max: float = RETRY_S_MAX,
        verify: Verify = True,
        cert: Cert | None = None,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._link = AsyncLink(Options(base_url, key, timeout_s, verify, cert), transport)
        self._retry_s_max = retry_s_max

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def disconnect(self) -> None:
        await self._link.close()

    async def send(self, command: Command[ReplyT]) -> ReplyT:
        repeating = retries.repeating_async(command, self._retry_s_max)
        answer: reading.Answer = await repeating(self._link.once, command)
        return reading.read(command, answer, retries.attempts(repeating))

    async def open_day(self, day_id: str, **fields: Unpack[OpenDay]) -> replies.Day:
        return await self.send(commands.open_day(day_id, **fields))

    async def day(self, day_id: str) -> replies.Day:
        return await self.send(commands.day(day_id))

    async def step(self, day_id: str, n: int, **fields: Unpack[Step]) -> replies.Decision:
        return await self.send(commands.step(day_id, n, **fields))

    async def decision(self, day_id: str, n: int) -> replies.Record:
        return await self.send(commands.decision(day_id, n))

    async def executions(self, day_id: str, reported: Rows) -> replies.Bookings:
        return await self.send(commands.executions(day_id, reported))

    async def instructions(
        self, day_id: str, instruction_id: str, **fields: Any
    ) -> replies.Instructed:
        return await self.send(commands.instructions(day_id, instruction_id, **fields))

    async def close(self, day_id: str, **fields: Unpack[Close]) -> reports.Report:
        return await self.send(commands.close(day_id, **fields))

    async def report(self, day_id: str) -> reports.Report:
        return await self.send(commands.report(day_id))

    async def log(self, day_id: str) -> reports.Log:
        return await self.send(commands.log(day_id))

    async def set_day_state(self, day_id: str, state: str) -> replies.State:
        return await self.send(commands.set_day_state(day_id, state))

    async def set_state(self, state: str) -> replies.State:
        return await self.send(commands.set_state(state))

    async def set_service_state(self, state: str) -> replies.State:
        return await self.send(commands.set_service_state(state))

    async def day_state(self, day_id: str) -> replies.State:
        return await self.send(commands.day_state(day_id))

    async def state(self) -> replies.State:
        return await self.send(commands.state())

    async def service_state(self) -> replies.State:
        return await self.send(commands.service_state())

    async def models(self) -> reports.Models:
        return await self.send(commands.models())

    async def reload_models(self) -> reports.Models:
        return await self.send(commands.reload_models())

    async def health(self) -> Probe:
        return await self._probe(commands.LIVE)

    async def ready(self) -> Probe:
        return await self._probe(commands.READY)

    async def _probe(self, command: Command[replies.Reply]) -> Probe:
        try:
            return reading.probe(await self._link.once(command))
        except (InDoubt, ConcordError) as error:
            return Probe(False, str(error))
