"""An OMS: `make serve` in one terminal, `.venv/bin/python docs/example_oms.py` in another."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.client import Child, Concord

URL, KEY_FILE = sys.argv[1:] or ("http://127.0.0.1:8000", "var/concord/dev.key")
DAY, CASH, OPEN = "example-oms", 12_000_000, datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
TIMES = {"times": [OPEN + n * timedelta(hours=1) for n in range(6)]}
PX = {"AAPL": 271.5, "MSFT": 478.2, "XOM": 117.3}  # from your market data
BARS = {name: list(PX.values()) for name in ("open", "high", "low", "close")}
SNAPSHOT = {"symbols": list(PX), **BARS, "volume": [100_000] * 3}
NAMED = {"cl_ord_id": ["B-1", "B-2", "S-1"], "symbol": ["AAPL", "XOM", "MSFT"]}
ORDERS = {**NAMED, "side": ["BUY", "BUY", "SELL"], "order_qty": [500, 1000, 500]}


def executed(child: Child) -> dict[str, object]:  # reported by your broker: this one fills at once
    fill = {"exec_type": "FILL", "last_qty": child.qty, "last_px": PX[child.symbol]}
    return {"exec_id": f"X-{child.child_id}", "child_id": child.child_id, **fill}


with Concord(URL, Path(KEY_FILE).read_text().strip()) as oms:
    oms.open_day(DAY, account="F7", currency="USD", cash_minor=CASH, schedule=TIMES, orders=ORDERS)
    fills: list[dict[str, object]] = []
    for n, as_of in enumerate(TIMES["times"], 1):
        decision = oms.step(DAY, n, as_of=as_of, snapshot=SNAPSHOT, executions=fills)
        print(f"{as_of:%H:%M}", *(f"{c.side} {c.qty} {c.symbol}" for c in decision.children))
        fills = [executed(child) for child in decision.children]
    report = oms.close(DAY, executions=fills)
    print(f"{report.filled_pct:.0f}% filled, {report.cash.cash_minor / 100:,.2f} USD left")
