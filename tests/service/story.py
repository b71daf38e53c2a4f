"""A short day that meets every route, and every problem once: the examples of the OpenAPI document.

``python -m tests.service.story`` lets the real application with the shipped model tell it anew, and
writes service/exchanges.json and docs/openapi.json.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from service import auth
from service.commits import Commit, MemoryStore, Outcome, StoreUnavailable
from service.core import laws
from service.rack import Fixed, Folder
from tests.service.api import ADMIN, HALTER, WATCHER, Api, Failing, Json, Reply, encoded, moment

ROOT = Path(__file__).resolve().parents[2]
EXCHANGES = ROOT / "service/exchanges.json"
DOCUMENT = ROOT / "docs/openapi.json"
DAY = "fund-7.2026-11-20"
PATH = f"/v1/days/{DAY}"
REQUEST_ID = "6f0c9a52d3b84e17a2c85b1e94d7f360"
SYMBOLS = ("AAPL", "MSFT", "NVDA")
MODELS = ROOT / "models"

OPENING: Json = {
    "account": "FUND-7",
    "currency": "USD",
    "schedule": {"times": [moment(n) for n in range(1, 5)], "end": moment(5)},
    "cash_minor": 5_000_000,
    "orders": {
        "cl_ord_id": ["B-1", "B-2", "S-1"],
        "symbol": ["AAPL", "NVDA", "MSFT"],
        "side": ["BUY", "BUY", "SELL"],
        "order_qty": [700, 900, 500],
        "limit_px": [None, 185.0, None],
        "completion": ["MUST", "BEST_EFFORT", "MUST"],
        "urgency_pct": [60, 0, 60],
    },
    "policy": "iac",
    "shadows": ["twap"],
    "limits": {"participation_ppm_max": 200_000},
    "reference": {
        "symbol": ["AAPL", "MSFT", "NVDA"],
        "prev_close": [270.9, 479.0, 181.2],
        "adv_qty": [52_000, 21_000, 190_000],
    },
    "holdings": {"MSFT": 500},
}
ONE: Json = {
    "account": "FUND-7",
    "currency": "USD",
    "schedule": {"times": [moment(1), moment(2)]},
    "cash_minor": 5_000_000,
    "orders": {"cl_ord_id": ["B-1"], "symbol": ["AAPL"], "side": ["BUY"], "order_qty": [100]},
    "policy": "twap",
}


def bars(*prices: float, symbols: tuple[str, ...] = SYMBOLS) -> Json:
    """A bar of each symbol around its price."""
    return {
        "symbols": list(symbols),
        "open": [round(px * 0.999, 2) for px in prices],
        "high": [round(px * 1.002, 2) for px in prices],
        "low": [round(px * 0.998, 2) for px in prices],
        "close": list(prices),
        "volume": [6_500, 2_600, 24_000][: len(prices)],
    }


def fill(exec_id: str, child_id: str, qty: int, px: float) -> Json:
    """A fill of a child."""
    named = {"exec_id": exec_id, "child_id": child_id, "exec_type": "TRADE"}
    return {**named, "last_qty": qty, "last_px": px}


class Story:
    """Exchanges with a service, as they are told to readers of the document."""

    def __init__(self, api: Api) -> None:
        self.api, self.told = api, list[Json]()

    def tell(
        self, operation: str, name: str, summary: str, method: str, path: str, body: Any = None,
        **more: Any,
    ) -> Reply:  # fmt: skip
        """Ask, and keep what was answered under ``name``."""
        reply = self.api.call(method, path, body, **more)
        assert reply.status == 200, reply.body
        media = reply.headers["content-type"].partition(";")[0]
        is_json = media == "application/json"
        self.told.append(
            {"operation": operation, "name": name, "summary": summary}
            | {"method": method, "path": path, "status": 200, "media": media}
            | ({"replayed": True} if reply.replayed else {})
            | ({} if body is None else {"body": body})
            | {"reply": reply.json if is_json else _excerpt(reply.body.decode())}
        )
        return reply

    def refused(self, code: str, operation: str, reply: Reply) -> None:
        """Keep a problem."""
        assert reply.code == code, (code, reply.body)
        instance = re.sub("[0-9a-f]{32}", REQUEST_ID, reply.json["instance"])
        self.told.append(
            {"operation": operation, "status": reply.status, "code": code}
            | {"reply": reply.json | {"instance": instance}}
        )


def _excerpt(text: str) -> str:
    """Of metrics, which differ from one moment to the next, what does not."""
    if not text.startswith("# HELP"):
        return text
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if re.search(r"concord_(clients|ready)\b", line))


def tell() -> list[Json]:
    """Everything, told anew by the real application over a store in memory."""
    with Api(source=Folder(MODELS)) as api:
        story = Story(api)
        _day(story)
        _short_day(story)
        _states(story)
        _bodies(story)
        _orders(story)
        _steps(story)
        _facts(story)
        _access(story)
    for trouble in (_store_trouble, _moving, _defects, _pressure, _models):
        trouble(story)
    return story.told


def _day(story: Story) -> None:
    tell, steps = story.tell, f"{PATH}/steps"
    tell("open_day", "opened", "A basket of three orders", "PUT", PATH, OPENING)
    first = {"as_of": moment(1), "snapshot": bars(271.5, 478.2, 182.4)}
    decided = tell("step", "first", "The first decision", "POST", f"{steps}/1", first).json
    tell("decision", "first", "With every round of its exchange", "GET", f"{steps}/1")
    sent = dict(zip(decided["orders"]["child_id"], decided["orders"]["child_qty"], strict=True))
    (buy, *_, sale) = [(child, qty) for child, qty in sent.items() if child]
    batch = {"executions": [fill("x-1", *buy, 271.6)]}
    tell("executions", "booked", "A child was filled", "POST", f"{PATH}/executions", batch)
    told = {
        "instruction_id": "pm-1",
        "amend": [{"cl_ord_id": "B-2", "order_qty": 1_000, "limit_px": 186.0}],
        "add": {"cl_ord_id": ["B-3"], "symbol": ["AAPL"], "side": ["BUY"], "order_qty": [40]},
        "expected_version": {"B-2": 1},
    }
    tell(
        "instruct", "changed", "One order amended, one added", "POST", f"{PATH}/instructions", told
    )
    second = {
        "as_of": moment(2),
        "snapshot": bars(272.1, 477.9, 183.0),
        "executions": [fill("x-2", sale[0], sale[1] // 2, 478.0)],
    }
    tell("step", "second", "With what the broker reported", "POST", f"{steps}/2", second)
    tell("step", "again", "The same bytes again", "POST", f"{steps}/2", second)
    tell("day", "trading", "Children are at the market", "GET", PATH)
    end = {"snapshot": bars(272.4, 478.4, 183.1)}
    tell("close", "closed", "Closed early", "POST", f"{PATH}/close", end)
    tell("report", "json", "As it was answered at the close", "GET", f"{PATH}/report")
    tell("report", "csv", "One row per order", "GET", f"{PATH}/report?format=csv")


def _short_day(story: Story) -> None:
    """Small enough for its log to be read."""
    assert story.api.open(ONE, "short").status == 200
    assert story.api.close({}, "short").status == 200
    path = "/v1/days/short/log"
    story.tell("log", "json", "Of a day without a decision", "GET", path)
    story.tell("log", "csv", "One row per command", "GET", f"{path}?format=csv")


def _states(story: Story) -> None:
    put, ordinary = "PUT", {"state": "ACTIVE"}
    path = "/v1/service/state"
    story.tell("set_day_state", "reducing", "Sales only", put, f"{PATH}/state",
               {"state": "REDUCING"}, key=HALTER)  # fmt: skip
    story.tell("set_state", "halted", "Stop", put, "/v1/state", {"state": "HALTED"}, key=HALTER)
    assert story.api.trading("ACTIVE", key=HALTER).status == 200
    story.tell("set_service_state", "active", "Go on", put, path, ordinary, key=ADMIN)
    story.tell("day_state", "set", "Of this day", "GET", f"{PATH}/state")
    story.tell("state", "set", "Of this client", "GET", "/v1/state")
    story.tell("service_state", "set", "Of everyone", "GET", "/v1/service/state")
    story.tell("models", "loaded", "What decides", "GET", "/v1/models")
    reload = ("POST", "/v1/models/reload")
    story.tell("reload_models", "same", "Nothing new", *reload, key=ADMIN)
    for name in ("livez", "readyz", "metrics"):
        story.tell(name, "well", "All is well", "GET", f"/{name}", key=None, kind=None)


def _bodies(story: Story) -> None:
    open_day = story.api.open
    story.refused("NOT_JSON", "open_day", open_day(b"{", "e"))
    story.refused("NOT_JSON_TYPE", "open_day", open_day(ONE, "e", kind="text/plain"))
    story.refused("BAD_FIELD", "open_day", open_day({**ONE, "cash_minor": -1}, "e"))
    story.refused("BAD_DAY_ID", "open_day", open_day(ONE, "a~b"))
    key = [("Idempotency-Key", "e:1")]
    story.refused("IDEMPOTENCY_KEY_MISMATCH", "open_day", open_day(ONE, "e", headers=key))
    story.refused("BODY_CHANGED", "open_day", open_day(ONE, DAY))
    story.refused("PATH_NOT_FOUND", "", story.api.call("GET", "/v1/days"))
    story.refused("METHOD_NOT_ALLOWED", "", story.api.call("DELETE", PATH))


def _orders(story: Story) -> None:
    def refused(code: str, **changes: Any) -> None:
        story.refused(code, "open_day", story.api.open({**ONE, **changes}, "e"))

    orders, reference = ONE["orders"], {"symbol": ["AAPL"], "prev_close": [0.0]}
    many = {name: values * 1_001 for name, values in orders.items()}
    refused("BAD_SCHEDULE", schedule={"times": [moment(2), moment(1)]})
    session = {"exchange": "XNYS", "date": "2026-11-21", "step_minutes": 30}
    refused("CALENDAR_MISSING", schedule=session)
    refused("TOO_MANY_ORDERS", orders=many)
    refused("COLUMNS_DIFFER", orders=orders | {"order_qty": [1, 2]})
    refused("DUPLICATE_ID", orders={name: values * 2 for name, values in orders.items()})
    refused("BAD_ORDER", orders=orders | {"lot_size": [30]})
    refused("BAD_PRICE", reference=reference)
    refused("HOLDINGS_SHORT", orders=orders | {"side": ["SELL"]}, holdings={"AAPL": 99})
    refused("GROSS_TOO_LARGE", orders=orders | {"limit_px": [271.5]},
            limits={"gross_notional_minor_max": 1_000_000})  # fmt: skip
    refused("UNKNOWN_POLICY", policy="best")


def _steps(story: Story) -> None:
    api, one = story.api, bars(271.5, symbols=("AAPL",))

    def refused(code: str, n: int = 1, day_id: str = "one", **changes: Any) -> None:
        body = {"as_of": moment(n), "snapshot": one, **changes}
        story.refused(code, "step", api.step(n, body, day_id))

    refused("DAY_NOT_FOUND")
    assert api.open(ONE, "one").status == 200
    reply = api.call("GET", "/v1/days/one/steps/1")
    story.refused("STEP_NOT_FOUND", "decision", reply)
    story.refused("DAY_NOT_STARTED", "close", api.close({"snapshot": one}, "one"))
    refused("STEP_GAP", 2)
    refused("DAY_CLOSED", day_id="short")
    refused("STALE_SNAPSHOT", as_of="2026-11-20T14:00:00Z")
    refused("AS_OF_TOO_LATE", as_of="2026-12-20T14:30:00Z")
    refused("BAD_VOLUME", snapshot=one | {"volume": [-1]})
    refused("SYMBOL_MISSING", snapshot=one | {"symbols": ["MSFT"]})


def _facts(story: Story) -> None:
    api, one = story.api, bars(271.5, symbols=("AAPL",))
    taken = {"as_of": moment(1), "snapshot": one}
    assert api.step(1, taken, "one").status == 200
    booked = fill("x", "B-1/1", 50, 271.5)
    assert api.report([booked], "one").status == 200
    for code, facts in (
        ("BAD_EXECUTION", [fill("y", "B-1/2", 1, 271.5)]),
        ("EXEC_ID_REUSED", [{**booked, "last_qty": 40}]),
        ("NOTIONAL_TOO_LARGE", [fill(f"z{n}", "B-1/1", 268_435_455, 300.0) for n in range(2)]),
    ):
        story.refused(code, "executions", api.report(facts, "one"))
    refused = api.instruct("i", "one", amend=[{"cl_ord_id": "B-1", "order_qty": 10}])
    story.refused("INSTRUCTIONS_REFUSED", "instruct", refused)
    assert api.open({**ONE, "fills": "paper"}, "paper").status == 200
    story.refused("PAPER_DAY", "step", api.step(1, taken | {"executions": [booked]}, "paper"))
    assert api.step(1, taken, "paper").status == 200
    story.refused("CLOSE_NEEDS_SNAPSHOT", "close", api.close({}, "paper"))


def _access(story: Story) -> None:
    api = story.api
    story.refused("UNAUTHENTICATED", "day", api.call("GET", PATH, key="desk.wrong"))
    story.refused("SCOPE_MISSING", "open_day", api.open(ONE, "e", key=WATCHER))


@contextmanager
def _another(**how: Any) -> Any:
    with Api(**{"source": Folder(MODELS), **how}) as api:
        yield api


def _store_trouble(story: Story) -> None:
    store = Failing(MemoryStore())
    with _another(store=store) as api:
        store.fail = {"load": lambda: StoreUnavailable("away")}
        story.refused("STORE_UNAVAILABLE", "day", api.call("GET", PATH))

    async def problems() -> list[str]:
        return ["appendfsync is everysec: set appendfsync to always"]

    unsafe = MemoryStore()
    with _another(store=unsafe) as api:
        with patch.object(unsafe, "durability_problems", problems):
            story.refused("NOT_READY", "readyz", api.call("GET", "/readyz", key=None, kind=None))


class _Moving(MemoryStore):
    """A store in which somebody else is always faster."""

    async def commit(self, commit: Commit) -> Outcome:
        for held in self._days.values():
            held["seq"] = str(int(held["seq"]) + 1).encode()
        return await super().commit(commit)


def _moving(story: Story) -> None:
    with _another(store=_Moving()) as api:
        assert api.open(ONE, "one").status == 200
        story.refused("BUSY", "instruct", api.instruct("i", "one", pause=["B-1"]))


def _defects(story: Story) -> None:
    store = Failing(MemoryStore())
    with _another(store=store) as api:
        with patch.object(laws, "DAY_LAWS", (lambda _: False,)):
            story.refused("LAW_BROKEN", "open_day", api.open(ONE, "one"))
        store.fail = {"load": lambda: ZeroDivisionError("a defect")}
        story.refused("INTERNAL", "day", api.call("GET", PATH))


def _pressure(story: Story) -> None:
    async def slow() -> AsyncIterator[bytes]:
        await asyncio.sleep(2)
        yield b""

    with _another(options={"connections_max": 1, "body_wait_s_max": 1}) as api:

        async def crowd() -> tuple[Reply, Reply]:
            held = asyncio.ensure_future(api.request("PUT", PATH, chunks=slow))
            await asyncio.sleep(0)
            return await api.request("GET", PATH), await held

        turned_away, late = api.run(crowd())
        story.refused("OVERLOADED", "day", turned_away)
        story.refused("BODY_TOO_SLOW", "open_day", late)
    with _another() as api:
        held = api.parts["keyring"]._keys
        held["desk"] = auth._Key(
            held["desk"].digest, auth.Client("desk", held["desk"].client.scopes, 1.0, 600)
        )
        story.refused("BODY_TOO_LARGE", "open_day", api.open(encoded(ONE) + b" " * 600, "e"))
        story.refused("RATE_LIMITED", "day", api.call("GET", PATH))


def _models(story: Story) -> None:
    with _another() as api:
        assert api.open(ONE, "one").status == 200
        shipped = Folder(MODELS).load({}).current
        fewer = {name: each for name, each in shipped.items() if name != "twap"}
        with _another(store=api.store, source=Fixed(fewer)) as later:
            body = {"as_of": moment(1), "snapshot": bars(271.5, symbols=("AAPL",))}
            story.refused("MODEL_MISSING", "step", later.step(1, body, "one"))
        (stored,) = api.store._days.values()
        stored["state"] = stored["state"].replace(b'"format":3', b'"format":2', 1)
        api.restart()
        story.refused("OTHER_VERSION", "day", api.call("GET", "/v1/days/one"))
    with TemporaryDirectory() as folder, chdir(folder):
        shutil.copytree(MODELS, "models")
        with _another(source=Folder(Path("models"))) as api:
            Path("models/manifest.json").write_text("{}")
            reply = api.call("POST", "/v1/models/reload", key=ADMIN)
            story.refused("MODEL_REFUSED", "reload_models", reply)


def written(value: Any) -> str:
    """JSON as it is kept in files."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write both files."""
    EXCHANGES.write_text(written(tell()), encoding="utf-8")
    with Api() as api:
        DOCUMENT.write_text(written(api.call("GET", "/openapi.json").json), encoding="utf-8")


if __name__ == "__main__":
    main()
