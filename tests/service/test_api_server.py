"""The real program: ``python -m service`` with its embedded store, over a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.service.api import Json, bars, day, encoded, end, fill, step

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 40.0
BODY_BYTES_MAX = 200_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """One service process on a data folder; ``restart`` starts another on the same one."""

    data_dir: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.port = free_port()
        with (self.data_dir / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"], cwd=ROOT, env=self.environment(), stderr=log
            )
        deadline = time.monotonic() + START_S_MAX
        while not self.ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CONCORD_")}
        kept.pop("REDIS_URL", None)
        return kept | {
            "CONCORD_PORT": str(self.port),
            "CONCORD_DATA_DIR": str(self.data_dir),
            "CONCORD_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
            "CONCORD_BODY_WAIT_S_MAX": "0.5",
        }

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, signum: int) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(20)

    def log(self) -> str:
        return (self.data_dir / "log").read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        key = (self.data_dir / "dev.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("service"))
    started.start()
    yield started
    started.stop(signal.SIGTERM)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def path(client: httpx.Client, request: pytest.FixtureRequest) -> str:
    """A day of its own for each test."""
    place = f"/v1/days/{request.node.originalname[:60]}"
    assert client.put(place, content=encoded(day())).status_code == 200
    return place


def raw_exchange(server: Server, sent: bytes, send_rest: Callable[[], bytes] | None = None) -> str:
    """What the server answers to these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(sent)
        if send_rest is not None:
            connection.sendall(send_rest())
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
        return b"".join(parts).decode()


def head(client: httpx.Client, place: str, *lines: str) -> bytes:
    authorization = client.headers["authorization"]
    fixed = [
        f"PUT {place} HTTP/1.1",
        "Host: x",
        f"Authorization: {authorization}",
        "Content-Type: application/json",
        "Connection: close",
    ]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def test_the_first_start_makes_private_keys(server: Server) -> None:
    for name in ("dev.key", "keys.json"):
        assert (server.data_dir / name).stat().st_mode & 0o777 == 0o600


def test_a_day_with_the_shipped_model(client: httpx.Client) -> None:
    body = {k: v for k, v in day().items() if k != "policy"} | {"fills": "paper"}
    assert client.put("/v1/days/shipped", content=encoded(body)).status_code == 200
    for n in range(1, 5):
        answer = client.post(f"/v1/days/shipped/steps/{n}", content=encoded(step(n))).json()
        assert (answer["policy"], answer["fallback"]) == ("iac", False)
        record = client.get(f"/v1/days/shipped/steps/{n}").json()
        for exchange in record["rounds"]:
            assert len(exchange["action"]) == len(exchange["probability"]) == 2
            for shares in exchange["probability"]:
                assert sum(shares) == pytest.approx(1, abs=1e-5)
    report = client.post("/v1/days/shipped/close", content=encoded({"snapshot": bars()})).json()
    assert report["filled_pct"] == 100.0
    assert report["fallbacks"] == 0


def test_what_was_acknowledged_survives_a_kill(server: Server, path: str) -> None:
    with server.client() as client:
        raw = encoded(step(1))
        first = client.post(f"{path}/steps/1", content=raw)
        booked = encoded({"executions": [fill("e", "A/1", 10)]})
        client.post(f"{path}/executions", content=booked)
        before = client.get(path).content
        client.put("/v1/state", content=encoded({"state": "HALTED"}))
    server.stop(signal.SIGKILL)
    server.start()
    with server.client() as client:
        again = client.post(f"{path}/steps/1", content=raw)
        assert (again.content, again.headers["replayed"]) == (first.content, "true")
        assert client.get(path).json()["trading"] == "HALTED"
        client.put("/v1/state", content=encoded({"state": "ACTIVE"}))
        assert client.get(path).content == before


def test_twenty_clients_racing_get_one_decision(server: Server, path: str) -> None:
    with server.client() as client, ThreadPoolExecutor(20) as pool:
        bodies = [encoded(step(1, bars(px=10 + i % 2))) for i in range(20)]
        replies = list(pool.map(lambda raw: client.post(f"{path}/steps/1", content=raw), bodies))
        done = [reply for reply in replies if reply.status_code == 200]
        assert len(done) == 10
        assert len({reply.content for reply in done}) == 1
        assert sum("replayed" not in reply.headers for reply in done) == 1
        assert {reply.status_code for reply in replies} == {200, 409}


def test_a_declared_length_beyond_the_limit_is_refused(
    server: Server, client: httpx.Client
) -> None:
    reply = client.put("/v1/days/large", content=b" " * (BODY_BYTES_MAX + 1))
    assert (reply.status_code, reply.json()["code"]) == (413, "BODY_TOO_LARGE")


def test_chunks_beyond_the_limit_are_refused(server: Server, client: httpx.Client) -> None:
    chunk = b"%x\r\n" % 50_000 + b" " * 50_000 + b"\r\n"
    sent = head(client, "/v1/days/chunks", "Transfer-Encoding: chunked") + chunk * 5
    reply = raw_exchange(server, sent)
    assert reply.startswith("HTTP/1.1 413 ")
    assert "BODY_TOO_LARGE" in reply


def test_a_slow_body_is_refused_in_time(server: Server, client: httpx.Client) -> None:
    begun = time.monotonic()
    reply = raw_exchange(server, head(client, "/v1/days/slow", "Content-Length: 100") + b"{")
    assert reply.startswith("HTTP/1.1 408 ")
    assert 0.4 < time.monotonic() - begun < 5
    assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT /v1/days/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/days/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["noise", "version", "negative length", "two lengths", "long header"],
)
def test_what_is_no_http_does_not_stop_the_service(
    server: Server, client: httpx.Client, sent: bytes
) -> None:
    try:
        reply = raw_exchange(server, sent)
        assert not reply or reply.startswith(("HTTP/1.1 400", "HTTP/1.1 4"))
    except ConnectionError:
        pass  # closed while it was still being sent
    assert client.get("/livez").status_code == 200


def test_a_caller_who_hangs_up_changes_nothing(server: Server, client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(client, "/v1/days/hung", "Content-Length: 100") + b"{")
    assert client.get("/v1/days/hung").status_code == 404
    assert client.get("/livez").status_code == 200


def test_a_second_start_on_the_same_data_is_refused(server: Server) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=os.environ | {"CONCORD_DATA_DIR": str(server.data_dir), "CONCORD_PORT": "0"},
        capture_output=True,
        timeout=START_S_MAX,
        check=False,
    )
    assert second.returncode == 2
    assert b"concord cannot start" in second.stderr
    assert b"Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"CONCORD_PORT": "secret"}, b"CONCORD_PORT: "),
        ({"CONCORD_LOG_LEVEL": "secret"}, b"CONCORD_LOG_LEVEL: "),
        ({"CONCORD_DATA_DIR": "/proc/nowhere"}, b"/proc/nowhere"),
        ({"REDIS_URL": "http://secret"}, b"write redis://"),
        ({"REDIS_URL": "redis://:secret/word@host:1"}, b"write redis://"),
        ({"REDIS_URL": "redis://:secret@127.0.0.1:1"}, b"no answer from the store"),
    ],
)
def test_a_wrong_setting_ends_the_start_in_one_sentence(
    tmp_path: Path, wrong: dict[str, str], told: bytes
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=os.environ | {"CONCORD_DATA_DIR": str(tmp_path), "CONCORD_PORT": "0"} | wrong,
        capture_output=True,
        timeout=START_S_MAX,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"concord cannot start: ")
    assert told in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"secret" not in done.stderr


def test_headers_have_an_end(server: Server, client: httpx.Client) -> None:
    """Before a key is known nobody may fill the memory."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        endless = b"x-filler: x\r\n" * 1_500_000  # 20 MB
        with pytest.raises(ConnectionError):
            connection.sendall(endless)
    assert client.get("/livez").status_code == 200


def test_the_log_is_structured_and_holds_no_secret(server: Server, path: str) -> None:
    with server.client() as client:
        client.post(f"{path}/steps/1", content=encoded(step(1)))
        client.post(f"{path}/executions", content=encoded({"executions": [end("c", "A/1")]}))
        secret = client.headers["authorization"].partition(".")[2]
    lines = server.log().splitlines()
    committed = [line for line in lines if '"event": "committed"' in line and path[9:] in line]
    assert len(committed) == 3
    assert all('"request_id": "' in line for line in committed)
    assert secret not in server.log()


def test_the_policies_of_a_service_are_named(client: httpx.Client) -> None:
    wrong: Json = day(policy="none")
    reply = client.put("/v1/days/wrong", content=encoded(wrong)).json()
    assert reply["code"] == "UNKNOWN_POLICY"
    assert reply["detail"] == "use one of: ac, iac, twap, vwap"
