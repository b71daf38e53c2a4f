"""The lab market: its planted means hold, a policy can see them, and nothing looks ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from service.core.baselines import twap
from service.core.contract import FEATURES
from service.core.observe import observe
from service.core.orders import BUY, Proceeds
from service.core.units import PPM
from training import lab as lab_module
from training.lab import LABS, LabMarket, even_cash_minor, lab_episodes
from training.simulator import advance, begin, play, prepare

Floats = npt.NDArray[np.float64]
names = pytest.mark.parametrize("name", LABS)


def paid(name: str, days: int, seed: int = 3) -> tuple[Floats, Floats, Floats]:
    """Prices over the anchor, states and sd ``[B, T, N]`` of a market with nothing shared, so
    that symbols are independent."""
    market = replace(LABS[name], common=0.0, gap_common_bp=0.0, gap_own_bp=100.0)
    batch, truth = lab_episodes(np.random.default_rng(seed), market, days)
    return batch.bars.price / batch.orders.prev_close[:, None], truth.state, truth.sd


@names
def test_the_state_tells_what_is_to_be_expected(name: str) -> None:
    price, state, sd = paid(name, 400)
    for ahead in (0, 1, 4):
        m, later = state[:, 2].ravel(), np.log(price[:, 2 + ahead]).ravel()
        residual = later - LABS[name].reversion ** ahead * m
        error = residual.std() / np.sqrt(len(m))
        assert abs(residual.mean()) < 4 * error
        assert abs(np.mean(residual * m)) < 4 * error * m.std()
    ratio = price / np.exp(state + sd**2 / 8) - 1
    assert abs(ratio.mean()) < 4 * ratio.std() / np.sqrt(ratio.size)


@names
def test_the_innovations_have_the_sd_that_is_told(name: str) -> None:
    price, state, sd = paid(name, 400)
    innovation = 2 * (np.log(price) - state) / sd
    np.testing.assert_allclose(innovation.std(axis=(0, 2)), 1.0, atol=0.04)
    market = LABS[name]
    told = np.sqrt(np.mean(market.step_sd() ** 2))
    assert told == pytest.approx(market.innovation_bp * 1e-4)
    multiplier = sd[:, 0, 0] / market.step_sd()[0]
    np.testing.assert_allclose(np.unique(multiplier.round(9)), np.unique(market.volatility))


@names
def test_a_policy_sees_the_state(name: str) -> None:
    """Gap and moves, told in daily sd, give the state without an unseen rest or a clipped end."""
    batch, truth = lab_episodes(np.random.default_rng(5), LABS[name], 60)
    market = prepare(batch)
    day = begin(batch, market)
    wanted = ("arrival_move", "last_move", "twap_move", "overnight_gap")
    columns = [list(FEATURES).index(each) for each in wanted]
    for step in range(batch.rules.steps):
        moves = observe(day).features[..., columns].astype(np.float64)
        assert abs(moves).max() < 5
        told = moves * (batch.orders.side * batch.orders.vol_ppm / PPM)[..., None]
        seen, state = told[batch.orders.live], truth.state[:, step][batch.orders.live]
        rest = state - seen @ np.linalg.lstsq(seen, state, rcond=None)[0]
        assert rest.var() < 2e-3 * state.var()
        day = advance(day, day.remaining * 0, market).day


@names
def test_nothing_at_the_open_depends_on_what_comes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, truth = lab_episodes(np.random.default_rng(1), LABS[name], 5)
    other = np.random.default_rng(99)
    monkeypatch.setattr(lab_module, "_innovations", lambda *given: other.normal(size=given[2]))
    theirs, theirs_truth = lab_episodes(np.random.default_rng(1), LABS[name], 5)
    assert (ours.bars.price != theirs.bars.price).any()
    np.testing.assert_array_equal(ours.cash_minor, theirs.cash_minor)
    for field in ("side", "order_qty", "live", "prev_close", "adv_qty", "vol_ppm", "profile_ppm"):
        a, b = getattr(ours.orders, field), getattr(theirs.orders, field)
        np.testing.assert_array_equal(a, b)
    first = [observe(begin(batch, prepare(batch))).features for batch in (ours, theirs)]
    np.testing.assert_array_equal(*first)
    np.testing.assert_array_equal(truth.state[:, 0], theirs_truth.state[:, 0])


@names
def test_bars_hold_together_and_no_cap_binds(name: str) -> None:
    batch, _ = lab_episodes(np.random.default_rng(2), LABS[name], 20)
    bars, orders = batch.bars, batch.orders
    for part in (bars.open, bars.close, bars.price):
        assert (bars.low <= part).all()
        assert (part <= bars.high).all()
    np.testing.assert_array_equal(bars.open[:, 1:], bars.close[:, :-1])
    assert (bars.volume > 0).all()
    expected = orders.adv_qty * orders.profile_ppm[..., 0, :] // PPM
    assert (orders.order_qty <= expected).all()
    assert batch.rules.proceeds is Proceeds.SAME_STEP


@names
def test_an_even_schedule_hardly_ever_runs_short(name: str) -> None:
    batch, _ = lab_episodes(np.random.default_rng(4), LABS[name], 300)
    day = play(batch, twap)
    assert day.conflicts.mean() / batch.rules.steps <= 0.01
    np.testing.assert_array_equal(
        batch.cash_minor, even_cash_minor(batch.orders, batch.bars.open[:, 0], LABS[name])
    )


def test_orders_are_as_asked() -> None:
    market = LabMarket(orders=(3, 6), buy_share=(0.5, 0.5), size_log_sd=0.4, cushion_bp=0.0)
    batch, truth = lab_episodes(np.random.default_rng(6), market, 300)
    orders = batch.orders
    count = orders.live.sum(axis=1)
    assert set(count.tolist()) == {3, 4, 5, 6}
    assert not orders.order_qty[~orders.live].any()
    buys = ((orders.side == BUY) & orders.live).sum(axis=1)
    assert (abs(buys - count / 2) <= 0.5).all()
    size = np.log((orders.order_qty * orders.prev_close)[orders.live])
    assert size.std() == pytest.approx(0.4, rel=0.1)
    assert truth.state.shape == batch.bars.price.shape == truth.sd.shape
