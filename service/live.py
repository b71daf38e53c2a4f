"""A live day: the core's Day with what the service knows about it, and its form in the store.

Imports the core, orjson and NumPy. The parts that only an opening and instructions change are
stored apart (``fixed``), the rest is written whole by every command (``state``): a JSON header, a
line feed, then the arrays as little-endian int64 one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import orjson

from service import tally
from service.core.book import Child
from service.core.day import Day, Status, Trading
from service.core.orders import Orders, Proceeds, Rules, Style
from service.core.units import check
from service.tally import Tally

FIXED, STATE = "fixed", "state"
FORMAT = 3
_BOOLEANS = frozenset({"live", "tradable", "halted", "paused", "canceled", "best_effort"})
_SCALARS = ("cash_minor", "min_cash_minor", "conflicts", "breached")
_ORDER_ARRAYS = tuple(f.name for f in fields(Orders) if f.name not in ("profile_ppm", "style"))
_STYLE_ARRAYS = tuple(f.name for f in fields(Style))
_DAY_ARRAYS = tuple(
    f.name
    for f in fields(Day)
    if f.name not in (*_SCALARS, "orders", "rules", "status", "trading", "step")
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when the day was opened, besides orders and rules.

    ``times_us`` are the scheduled decisions in microseconds since 1970 (UTC), ``model`` names the
    policy's version and fingerprint, ``cl_ord_ids`` and ``symbols`` go by order number.
    ``holdings`` are what may be sold by symbol, None where it is taken to be what is sold.
    """

    account: str
    currency: str
    times_us: tuple[int, ...]
    policy: str
    model: dict[str, str]
    fills: str
    snapshot_age_s_max: int
    opening_cash_minor: int
    cl_ord_ids: tuple[str, ...]
    symbols: tuple[str, ...]
    holdings: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class LiveDay:
    """One client's day as the service holds it.

    ``children`` are at the market, ``blocked`` (int64 ``[N]``) numbers the reason that kept the
    last forced child of an order below what remained (0: none), ``sent`` (bool ``[T, N]``) which
    steps sent a child, ``loosest_px`` (ticks ``[N]``) the weakest protection any of them had,
    ``version`` (int64 ``[N]``, from 1) counts the instructions of an order. ``as_of_us`` is the
    time of the last snapshot, ``tally`` what a report sums up, ``numbers`` looks up an order by its
    cl_ord_id.
    """

    terms: Terms
    day: Day
    children: tuple[Child, ...]
    blocked: np.ndarray
    sent: np.ndarray
    loosest_px: np.ndarray
    version: np.ndarray
    as_of_us: int
    fallbacks: int
    alarms: int
    tally: Tally
    numbers: dict[str, int] = field(repr=False)

    @property
    def paper(self) -> bool:
        """Whether the service fills the children itself."""
        return self.terms.fills == "paper"

    def after(self, day: Day, **changes: Any) -> LiveDay:
        """The live day with a successor ``day`` and other ``changes``."""
        return replace(self, day=day, **changes)


class OtherFormat(Exception):
    """A stored day was written by another version of the service."""


def begin(terms: Terms, day: Day) -> LiveDay:
    """A live day before its first decision."""
    nothing = np.zeros_like(day.cum_qty)
    never = np.zeros((day.rules.steps, nothing.size), dtype=np.bool_)
    numbers = numbered(terms.cl_ord_ids)
    kept = (nothing, never, nothing, nothing + 1)
    return LiveDay(terms, day, (), *kept, 0, 0, 0, tally.start(nothing.size), numbers)


def numbered(ids: Iterable[str]) -> dict[str, int]:
    """Order numbers by cl_ord_id."""
    return {cl_ord_id: number for number, cl_ord_id in enumerate(ids)}


def pack_fixed(live: LiveDay) -> bytes:
    """The parts of a day that an opening and instructions change."""
    terms, rules, orders = live.terms, live.day.rules, live.day.orders
    header = {
        "format": FORMAT,
        "terms": {f.name: getattr(terms, f.name) for f in fields(terms)},
        "rules": {f.name: getattr(rules, f.name) for f in fields(rules)},
        "n": len(terms.symbols),
        "style": orders.style is not None,
    }
    styles = [] if orders.style is None else [getattr(orders.style, n) for n in _STYLE_ARRAYS]
    columns = [getattr(orders, n) for n in _ORDER_ARRAYS]
    return _pack(header, [*columns, *styles, orders.profile_ppm])


def pack_state(live: LiveDay) -> bytes:
    """The parts of a day that every command changes."""
    day = live.day
    header = {
        "format": FORMAT,
        "status": day.status,
        "trading": day.trading,
        "step": day.step,
        "as_of_us": live.as_of_us,
        "fallbacks": live.fallbacks,
        "alarms": live.alarms,
        "children": len(live.children),
        "cuts": [len(live.tally.cuts), len(live.tally.pending)],
        **{name: int(getattr(day, name)) for name in _SCALARS},
    }
    book = [(c.order, c.step, c.open_qty, c.protect_px, c.sent_qty) for c in live.children]
    columns = [getattr(day, name) for name in _DAY_ARRAYS]
    kept = (live.blocked, live.loosest_px, live.version)
    sums = (live.tally.value.view("<i8"), live.tally.conflicts, live.tally.cuts)
    rest = (*kept, *sums, live.tally.pending, np.array(book, dtype=np.int64), _bits(live.sent))
    return _pack(header, [*columns, *rest])


def _bits(flags: np.ndarray) -> np.ndarray:
    """Eight flags in a byte, filled up to whole int64."""
    packed = np.packbits(flags)
    whole = np.zeros(-(-packed.size // 8) * 8, dtype=np.uint8)
    whole[: packed.size] = packed
    return whole.view("<i8")


def _flags(bits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.unpackbits(bits.view(np.uint8), count=shape[0] * shape[1]).astype(bool).reshape(shape)


def unpack(fixed: bytes, state: bytes) -> LiveDay:
    """A live day as it was packed; raises OtherFormat for one that another version wrote."""
    terms, rules, orders = _unpack_fixed(fixed)
    header, body = _split(state)
    n, count = len(terms.symbols), header["children"]
    flags = (rules.steps, n)
    cut, pending = header["cuts"]
    sizes = [n] * (len(_DAY_ARRAYS) + 5)
    sizes += [4 * cut, 3 * pending, 5 * count, -(-rules.steps * n // 64)]
    parts = _cut(body, sizes)
    columns, held = parts[: len(_DAY_ARRAYS)], parts[len(_DAY_ARRAYS) :]
    blocked, loosest_px, version, value, conflicts, cuts, waiting, book, bits = held
    arrays = _named(_DAY_ARRAYS, columns)
    day = Day(
        orders=orders,
        rules=rules,
        status=Status(header["status"]),
        trading=Trading(header["trading"]),
        step=header["step"],
        cash_minor=np.int64(header["cash_minor"]),
        min_cash_minor=np.int64(header["min_cash_minor"]),
        conflicts=np.int64(header["conflicts"]),
        breached=np.bool_(header["breached"]),
        **arrays,
    )
    children = tuple(Child(*map(int, row)) for row in book.reshape(count, 5))
    told = (header["as_of_us"], header["fallbacks"], header["alarms"])
    kept = (blocked, _flags(bits, flags), loosest_px, version)
    sums = (value.view("<f8"), conflicts, cuts.reshape(cut, 4), waiting.reshape(pending, 3))
    return LiveDay(terms, day, children, *kept, *told, Tally(*sums), numbered(terms.cl_ord_ids))


def _named(names: Sequence[str], columns: Sequence[np.ndarray]) -> dict[str, Any]:
    return {
        name: column != 0 if name in _BOOLEANS else column
        for name, column in zip(names, columns, strict=True)
    }


def _unpack_fixed(fixed: bytes) -> tuple[Terms, Rules, Orders]:
    header, body = _split(fixed)
    rules = Rules(**header["rules"] | {"proceeds": Proceeds(header["rules"]["proceeds"])})
    told = header["terms"]
    lists = {name: tuple(told[name]) for name in ("times_us", "cl_ord_ids", "symbols")}
    n = header["n"]
    names = _ORDER_ARRAYS + (_STYLE_ARRAYS if header["style"] else ())
    *columns, profile = _cut(body, [n] * len(names) + [n * rules.steps])
    arrays = _named(names, columns)
    made = {name: arrays.pop(name) for name in _STYLE_ARRAYS} if header["style"] else None
    style = None if made is None else Style(**made)
    orders = Orders(**arrays, profile_ppm=profile.reshape(rules.steps, n), style=style)
    return Terms(**told | lists), rules, orders


def _pack(header: dict[str, Any], arrays: Sequence[np.ndarray]) -> bytes:
    flat = np.concatenate([array.ravel() for array in arrays], dtype="<i8", casting="unsafe")
    return orjson.dumps(header) + b"\n" + flat.tobytes()


def _split(packed: bytes) -> tuple[dict[str, Any], np.ndarray]:
    head, _, body = packed.partition(b"\n")
    header: dict[str, Any] = orjson.loads(head)
    if header.get("format") != FORMAT:
        raise OtherFormat
    return header, np.frombuffer(body, dtype="<i8")


def _cut(body: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    check(sum(sizes) == body.size, "a stored day has arrays of the right length")
    return np.split(body, np.cumsum(sizes)[:-1])
