"""``python -m service.play``: play one trading day through the service and show it.

Without ``--url`` it starts a service of its own, with its embedded store in a temporary folder, and
stops it again. Without ``--bars`` it plays a generated day.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from service.client import Concord, ConcordError
from service.play.day_bars import BarsError, DayBars, bars_per_step
from service.play.hosted import ServiceError, hosted
from service.play.oms import Played, play
from service.play.orders import DAYS_BEFORE, MARGIN_BP, OrdersError, make_orders
from service.play.sample import generate_days
from service.play.screen import Screen
from service.play.script import PAPER, REPORTED, Script, script
from service.play.summary import lines, save

SEED = 7
STEP_MINUTES = 30


class _Left(BaseException):
    """Asked to stop. A KeyboardInterrupt that comes while some library evaluates a string would end
    the process by the signal, whoever catches it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Play a day; the exit status is 0 when it was played to its end."""
    options = _parser().parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _leave)
    try:
        return _run(options)
    except (BarsError, OrdersError, ServiceError, ConcordError) as error:
        sys.stderr.write(f"service.play: {error}\n")
        return 1
    except _Left:
        sys.stderr.write("service.play: interrupted; everything it started is stopped\n")
        return 130


def _run(options: argparse.Namespace) -> int:
    console = Console()
    day = _script(options)
    with _service(options) as (url, key), Concord(url, key) as concord:
        title = f"{day.day_id}: {len(day.basket.symbol)} orders, policy {day.policy}, {url}"
        live = console.is_terminal and not options.no_live
        with Screen(title, console, live=live) as screen:
            played = play(concord, day, screen.show)
    _finish(options.out, played)
    return 0


def _finish(out: Path, played: Played) -> None:
    """Print the summary; its last line is the path of the JSON summary."""
    report, summary = save(out, played)
    for line in ("", *lines(played), f"report          {report}", str(summary)):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _script(options: argparse.Namespace) -> Script:
    *previous, day = _days(options)
    step_bars = bars_per_step(day, options.step_minutes)
    basket = make_orders(
        day,
        previous,
        step_bars,
        options.seed,
        options.orders,
        lot=options.lot or _usual_lot(day),
        margin_bp=options.margin_bp,
    )
    # another service may remember a day of the same name, its own is always new
    fresh = f"-{secrets.token_hex(3)}" if options.url else ""
    return script(
        day,
        basket,
        step_bars,
        day_id=options.day_id or f"{day.date}-{options.policy}{fresh}",
        policy=options.policy,
        fills=options.fills,
    )


def _days(options: argparse.Namespace) -> list[DayBars]:
    """The day to play, last, and the days before it."""
    if options.bars is None:
        if options.date is not None:
            raise BarsError("--date chooses a day of a file; give --bars too")
        return generate_days(options.seed, DAYS_BEFORE + 1, symbols=max(40, options.orders))
    from service.play.bars import days, read_days  # a generated day needs no pyarrow

    dates = days(options.bars)
    date = options.date or dates[-1]
    known = [past for past in dates if past < date][-DAYS_BEFORE:]
    return read_days(options.bars, [*known, date])


def _usual_lot(day: DayBars) -> int:
    """100 where symbols are Chinese codes of six digits, 1 elsewhere."""
    return 100 if all(len(s) == 6 and s.isdigit() for s in day.symbols) else 1


@contextmanager
def _service(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Address and API key of the service to play on."""
    if options.url is None:
        with hosted() as service:
            yield service
        return
    if options.key_file is None:
        raise ServiceError("--url needs --key-file, a file that holds the API key id.secret")
    try:
        key = options.key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ServiceError(f"the key file cannot be read: {error}") from error
    yield options.url, key


def _leave(signum: int, frame: object) -> NoReturn:
    raise _Left


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.play", description=__doc__)
    add = parser.add_argument
    add("--bars", type=Path, help="Parquet file of bars; a generated day without it")
    add("--date", help="day of the file, YYYY-MM-DD; its last one without it")
    add("--orders", type=int, default=20, help="orders of the day (%(default)s)")
    add("--policy", default="iac", help="iac, twap, vwap or ac (%(default)s)")
    add("--seed", type=int, default=SEED, help="makes the orders, and the generated day")
    add("--fills", choices=(REPORTED, PAPER), default=REPORTED, help="who fills the children")
    add("--step-minutes", type=int, default=STEP_MINUTES, help="trading time of one step")
    add("--lot", type=int, help="lot size; 100 for Chinese codes and 1 elsewhere without it")
    add("--margin-bp", type=int, default=MARGIN_BP, help="margin of the initial cash (%(default)s)")
    add("--out", type=Path, default=Path("runs/demo"), help="folder of both JSON files")
    add("--url", help="a running service; its own is started without it")
    add("--key-file", type=Path, help="file with the API key for --url")
    add("--day-id", help="name of the day in the service")
    add("--no-live", action="store_true", help="plain rows also on a terminal")
    return parser


if __name__ == "__main__":
    sys.exit(main())
