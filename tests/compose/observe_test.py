"""The profile `observe`, proved: started, a day played, every rule and every panel asked for real.

Run by `make observe-test`; needs a container engine and the two public images. CONTAINER_COMPOSE
names the command that takes compose's arguments; OBSERVE_WITHOUT=grafana leaves Grafana out, for a
machine that cannot get its image.
"""

import json
import os
import socket
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from compose_test import Client, Stack, StackError, check, demo, say

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "docs/observability/grafana/dashboards/concord.json"
WAIT_S_MAX = 180.0
Json = dict[str, Any]


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(url: str, body: Json | None = None, credentials: str = "") -> Json:
    """The JSON that a GET, or a POST of ``body``, answers; raises OSError for anything else."""
    headers = {"Content-Type": "application/json"}
    if credentials:
        headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 (our own http address)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found: Json = json.loads(answer.read())
        return found


def until(what: str, holds: Callable[[], bool]) -> None:
    """Waits for ``holds``; ends the test when it takes too long."""
    end = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < end:
        with suppress(OSError, KeyError, IndexError):
            if holds():
                say(what)
                return
        time.sleep(1)
    raise SystemExit(f"compose-test: FAILED: not within {WAIT_S_MAX:.0f} s: {what}")


class Prometheus:
    """Prometheus of the stack, by its HTTP interface."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def value(self, expr: str) -> float:
        """The first sample of a query; raises IndexError where there is none."""
        return float(self.query(expr)[0]["value"][1])

    def query(self, expr: str) -> list[Json]:
        """All samples of a query."""
        answer = ask(f"{self._url}/query?{urlencode({'query': expr})}")
        found: list[Json] = answer["data"]["result"]
        return found

    def rules(self) -> dict[str, Json]:
        """The alerts by their names."""
        (group,) = ask(f"{self._url}/rules")["data"]["groups"]
        return {rule["name"]: rule for rule in group["rules"]}


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of every panel, with Grafana's own variables filled in."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h")
            yield panel["title"], expr


def watch(stack: Stack, prometheus: Prometheus, key_file: Path) -> None:
    """What Prometheus sees of a day, and of the service's death."""
    until("Prometheus reads the service", lambda: prometheus.value('up{job="concord"}') == 1)
    demo(stack, key_file)
    decided = "sum(concord_decisions_total)"
    until("it has counted the decisions", lambda: prometheus.value(decided) > 0)
    until("the day is closed", lambda: prometheus.value("sum(concord_open_days)") == 0)
    empty = [title for title, expr in panels() if not prometheus.query(expr)]
    # these filter for what is not zero, and nothing went wrong
    quiet = {"Alarms by code", "Problems by code", "Trading states set"}
    check(set(empty) <= quiet, "every other panel has data", empty)
    until(
        "every alert is judged, none fires",
        lambda: (
            {(r["health"], r["state"]) for r in prometheus.rules().values()} == {("ok", "inactive")}
        ),
    )
    revive = stack.kill("service")
    revive.join()
    stack("stop", "service")
    down = lambda: prometheus.rules()["ConcordDown"]["state"] == "firing"  # noqa: E731
    until("a service that is down is an alert", down)
    stack("start", "service")
    until("and none when it is back", lambda: not down())


def look(grafana: str) -> None:
    """What anybody on this machine can see in Grafana, and what nobody can do."""
    until("Grafana answers", lambda: ask(f"{grafana}/api/health")["database"] == "ok")
    shown = lambda: ask(f"{grafana}/api/dashboards/uid/concord")["dashboard"]["title"]  # noqa: E731
    until("the dashboard is there without a login", lambda: shown() == "Concord")
    source = {"type": "prometheus", "uid": "concord-prometheus"}
    query = {"refId": "A", "expr": "concord_ready", "instant": True, "datasource": source}
    body = {"queries": [query], "from": "now-5m", "to": "now"}
    frames = ask(f"{grafana}/api/ds/query", body)["results"]["A"]["frames"]
    check(bool(frames), "its data source answers", frames)
    for what in ({"credentials": "admin:admin"}, {}):
        try:
            ask(f"{grafana}/api/admin/settings", **what)
        except HTTPError as error:
            check(error.code in (401, 403), "nobody is an admin", error)
        else:
            raise SystemExit(f"compose-test: FAILED: somebody is an admin: {what}")


def main() -> None:
    """Everything in order; the stack goes away in any case."""
    ports = {name: free_port() for name in ("prometheus", "grafana")}
    os.environ |= {f"CONCORD_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    os.environ["COMPOSE_PROFILES"] = "observe"
    parts = ["service", "store", *(set(ports) - {os.environ.get("OBSERVE_WITHOUT")})]
    stack = Stack()
    stack.remove()
    try:
        stack("build", "service", "store")
        stack("up", "-d", *parts)
        client = Client(stack.port, "")
        check(client("GET", "/readyz").status == 200, "the service is ready")
        with tempfile.TemporaryDirectory() as folder:
            key_file = Path(folder) / "key"
            key_file.touch(0o600)
            key = stack("exec", "-T", "service", "cat", "/data/key")
            key_file.write_text(key.strip(), encoding="utf-8")
            watch(stack, Prometheus(ports["prometheus"]), key_file)
        if "grafana" in parts:
            look(f"http://127.0.0.1:{ports['grafana']}")
        say("what watches the service sees it")
    except BaseException:
        with suppress(StackError):
            sys.stderr.write(stack("logs"))
        raise
    finally:
        stack.remove()


if __name__ == "__main__":
    main()
