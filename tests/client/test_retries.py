"""What is sent again, with which bytes, for how long, and what the service makes of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from service.client import Concord, Failed, Refused, Unavailable, commands
from service.client.retries import retry_after_s
from tests.client.wires import CUT, LOST, REFUSED, Fault, Line
from tests.service.api import ADMIN, bars, day, fill, step

AWAY = {"code": "STORE_UNAVAILABLE", "detail": "repeat the request"}


def away(retry_after: str = "0") -> httpx.Response:
    return httpx.Response(503, json=AWAY, headers={"Retry-After": retry_after})


@pytest.mark.parametrize("fault", [LOST, CUT], ids=["timeout", "cut"])
def test_a_lost_answer_is_asked_for_again_and_decided_once(connect: Line, fault: Fault) -> None:
    connect().open_day("d", **day())
    decision = connect(fault).step("d", 1, **step(1))
    first, again = connect.wire.seen
    assert first == again
    assert (decision.attempts, decision.replayed) == (2, True)
    assert connect().day("d").step == 1
    assert connect().step("d", 1, **step(1)).raw == decision.raw


def test_every_command_may_lose_its_answer(connect: Line) -> None:
    concord = connect(*[fault for _ in range(6) for fault in (LOST, None)])
    told = [concord.open_day("d", **day()), concord.step("d", 1, **step(1))]
    told += [concord.executions("d", [fill("x", "A/1", 250)])]
    told += [concord.instructions("d", "i", cancel=["B"])]
    told += [concord.close("d", snapshot=bars())]
    assert [(reply.attempts, reply.replayed) for reply in told] == [(2, True)] * 5
    assert told[-1].orders.cum_qty == [250, 0]
    sent = connect.wire.seen
    assert sent[::2] == sent[1::2]


@pytest.mark.parametrize(
    "faults",
    [
        [REFUSED, Fault(httpx.ConnectTimeout), Fault(httpx.WriteError)],
        [Fault(httpx.ReadError), Fault(httpx.PoolTimeout)],
        [away(), httpx.Response(502, text="<html>"), httpx.Response(504)],
    ],
)
def test_what_is_in_doubt_is_repeated(connect: Line, faults: list[Fault]) -> None:
    opened = connect(*faults).open_day("d", **day())
    assert (opened.attempts, opened.replayed) == (len(faults) + 1, False)
    assert len(set(connect.wire.seen)) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 451])
def test_a_refusal_is_not_repeated(connect: Line, status: int) -> None:
    told = httpx.Response(status, json={"code": "SOME", "detail": "no"})
    with pytest.raises(Refused):
        connect(told).open_day("d", **day())
    assert len(connect.wire.seen) == 1


def test_a_defect_is_not_repeated(connect: Line) -> None:
    with pytest.raises(Failed, match="LAW_BROKEN"):
        connect(httpx.Response(500, json={"code": "LAW_BROKEN"})).open_day("d", **day())
    assert len(connect.wire.seen) == 1


def test_in_the_end_it_says_that_it_does_not_know(connect: Line) -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"the same bytes may be sent again") as caught:
        connect(*[away()] * 99, retry_s_max=0.3).open_day("d", **day())
    assert time.monotonic() - begun < 2
    assert 1 < caught.value.attempts == len(connect.wire.seen)
    assert (caught.value.problem, caught.value.last) == (
        AWAY,
        "503: STORE_UNAVAILABLE: repeat the request",
    )
    assert caught.value.__cause__ is not None


def test_a_repetition_is_noted(connect: Line, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="service.client"):
        connect(LOST).open_day("d", **day())
    (record,) = caplog.records
    assert record.getMessage().startswith("PUT /v1/days/d: ReadTimeout: on purpose; again in 0.")


def test_no_time_to_repeat_is_one_attempt(connect: Line) -> None:
    with pytest.raises(Unavailable, match="ConnectError: on purpose"):
        connect(REFUSED, retry_s_max=0).day("d")
    assert len(connect.wire.seen) == 1


def test_the_service_is_given_the_time_it_asks_for(connect: Line) -> None:
    begun = time.monotonic()
    connect(away("1")).open_day("d", **day())
    assert time.monotonic() - begun >= 1
    with pytest.raises(Unavailable):  # longer than there is: no use to wait
        connect(away("3600")).day("d")
    assert time.monotonic() - begun < 5


def test_forms_of_retry_after() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < retry_after_s(soon) <= 60
    assert retry_after_s("Fri, 20 Nov 2015 14:30:00 GMT") == 0
    assert retry_after_s("7") == 7
    nonsense = ["", "-1", "soon", "٣", "1e9", "Fri, 99 Nov 2026 99:00:00 GMT"]
    assert [retry_after_s(header) for header in nonsense] == [0] * len(nonsense)


@pytest.mark.parametrize("state", ["ACTIVE", "REDUCING"])
def test_only_a_halt_is_repeated(connect: Line, state: str) -> None:
    """Another one that is late could end the halt of somebody else."""
    with pytest.raises(Unavailable, match=r"see what was set meanwhile") as caught:
        connect(LOST).set_state(state)
    assert not caught.value.repeatable
    with pytest.raises(Unavailable):
        connect(REFUSED, key=ADMIN).set_service_state(state)
    assert connect(LOST).set_state("HALTED").attempts == 2


def test_a_command_is_a_value_that_outlives_the_process(connect: Line) -> None:
    opening = commands.open_day("d", **day())
    with pytest.raises(Unavailable):
        connect(LOST, retry_s_max=0).send(opening)
    written_down = opening.content
    after_restart = commands.open_day("d", **day())
    assert after_restart.content == written_down
    assert connect().send(after_restart).replayed


@contextmanager
def server(*behaviours: Callable[[socket.socket], None]) -> Iterator[str]:
    """Takes one connection after the other, and treats each as it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def serve() -> None:
            for behaviour in behaviours:
                connection, _ = listening.accept()
                held.append(connection)
                connection.recv(65_536)
                behaviour(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)
        for connection in held:
            connection.close()


def test_real_sockets_that_hang_up_are_silent_or_break_off() -> None:
    body = b'{"state":"HALTED"}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    behaviours = (
        lambda connection: connection.close(),
        lambda connection: None,
        lambda connection: (connection.sendall(head + body[:5]), connection.close()),
        lambda connection: connection.sendall(head + body),
    )
    with server(*behaviours) as url, Concord(url, "k.s", timeout_s=0.3) as concord:
        told = concord.set_state("HALTED")
    assert (told.state, told.attempts, told.raw) == ("HALTED", 4, body)
