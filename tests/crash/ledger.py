"""A second bookkeeper: what a day must hold after its commands, from requests and answers alone.

Shares nothing with the service but the wire format. Plain integers: ticks of 1e-4, minor units of
a hundredth; a buy's money is rounded up and a sale's down, once for each execution.
"""

from dataclasses import dataclass, field

from tests.crash.script import OPEN, TICKS, Json

TICKS_PER_MINOR = 100
_FILLS = ("FILL", "PARTIAL_FILL", "TRADE")


@dataclass
class Order:
    """One parent order and its children at the market, oldest first."""

    side: str
    target: int
    cum: int = 0
    sent: int = 0
    ended: int = 0
    beyond: int = 0
    children: dict[str, int] = field(default_factory=dict)

    @property
    def working(self) -> int:
        """Shares at the market."""
        return sum(self.children.values())

    @property
    def whole(self) -> bool:
        """Whether the children account for all that was sent."""
        return self.sent == self.working + self.ended + self.cum - self.beyond

    def told(self) -> tuple[int, int, int, int]:
        """cum, working, leaves and overfill as the service must tell them."""
        held = self.cum + self.working
        leaves = max(self.target - held, 0) + self.working
        return self.cum, self.working, leaves, max(held - self.target, 0)


class Ledger:
    """One day as its bookkeeper sees it; `wrong` are the answers that disagree."""

    def __init__(self) -> None:
        self.cash = 0
        self.orders: dict[str, Order] = {}
        self.exec_ids: set[str] = set()
        self.wrong: list[str] = []
        self._paper = False
        self._symbols: dict[str, str] = {}

    def book(self, name: str, request: Json, answer: Json) -> None:
        """Book one command, and compare what it answered."""
        if name == OPEN:
            self._open(request)
        else:
            self._happened(request)
        if name.startswith("step:"):
            self._send(answer)
        self.compare(name, answer)

    def compare(self, name: str, answer: Json) -> None:
        """Compare an answer's cash and orders with the books."""
        if answer["cash"]["cash_minor"] != self.cash:
            self.wrong.append(f"{name}: cash {answer['cash']['cash_minor']}, booked {self.cash}")
        columns = answer["orders"]
        names = ("cum_qty", "working_qty", "leaves_qty", "overfill_qty")
        rows = zip(*(columns[column] for column in names), strict=True)
        for cl_ord_id, row, qty in zip(
            columns["cl_ord_id"], rows, columns["order_qty"], strict=True
        ):
            order, (cum, _, leaves, over) = self.orders[cl_ord_id], row
            whole = order.whole and qty == order.target and cum + leaves == qty + over
            if row != order.told() or not whole:
                self.wrong.append(f"{name}: {cl_ord_id} is {row}, booked {order}")

    def compare_day(self, state: Json) -> None:
        """Compare the state of the day, its children included."""
        self.compare("state", state)
        found = {child["child_id"]: child["working_qty"] for child in state["children"]}
        books = (order.children for order in self.orders.values())
        if not self._paper and found != {c: q for book in books for c, q in book.items() if q}:
            self.wrong.append(f"children {found}")

    def _open(self, request: Json) -> None:
        self.cash, self._paper = request["cash_minor"], request["fills"] == "paper"
        columns = request["orders"]
        rows = zip(*(columns[n] for n in ("cl_ord_id", "side", "order_qty", "symbol")), strict=True)
        for cl_ord_id, side, qty, symbol in rows:
            self.orders[cl_ord_id] = Order(side, qty)
            self._symbols[cl_ord_id] = symbol

    def _happened(self, request: Json) -> None:
        if self._paper:
            return self._paper_fills(request["snapshot"])
        for told in request["executions"]:
            if told["exec_id"] not in self.exec_ids:
                self.exec_ids.add(told["exec_id"])
                self._book_told(told)
        return None

    def _book_told(self, told: Json) -> None:
        cl_ord_id = told.get("cl_ord_id") or told["child_id"].split("/")[0]
        order = self.orders[cl_ord_id]
        named = [told["child_id"]] if "child_id" in told else list(order.children)
        if told["exec_type"] in _FILLS:
            self._fill(order, named, told["last_qty"], round(told["last_px"] * TICKS))
        else:
            for child in named:
                order.ended += order.children.get(child, 0)
                order.children[child] = 0

    def _fill(self, order: Order, named: list[str], qty: int, px: int) -> None:
        left = qty
        for child in named:
            taken = min(left, order.children.get(child, 0))
            order.children[child] = order.children.get(child, 0) - taken
            left -= taken
        order.cum += qty
        order.beyond += left
        flow = -qty * px if order.side == "BUY" else qty * px
        self.cash += flow // TICKS_PER_MINOR  # downwards: against the account

    def _paper_fills(self, bars: Json) -> None:
        """No bar leaves what protects the children: all that works fills, at the mean price."""
        mean = dict(zip(bars["symbols"], bars["vwap"], strict=True))
        for cl_ord_id, order in self.orders.items():
            if order.working:
                px = round(mean[self._symbols[cl_ord_id]] * TICKS)
                self._fill(order, list(order.children), order.working, px)
            order.children.clear()

    def _send(self, answer: Json) -> None:
        columns = answer["orders"]
        names = ("cl_ord_id", "child_id", "child_qty")
        for cl_ord_id, child, qty in zip(*(columns[n] for n in names), strict=True):
            if child:
                order = self.orders[cl_ord_id]
                order.children[child] = qty
                order.sent += qty
