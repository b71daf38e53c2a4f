"""The references: in their order, reached where they should be, and right by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from service.core.baselines import twap
from service.core.day import Day
from service.core.policy import Intent
from training.episodes import EpisodeBatch, to_device
from training.lab import LABS, LabMarket, Truth, lab_episodes
from training.references.clairvoyant import clairvoyant_bp
from training.references.gains import Floats, best_schedule, play_logged
from training.references.informed import informed_bp, multipliers, remaining, unconstrained_bp
from training.references.planner import Planner, expected
from training.references.priced import Priced
from training.references.stopping import Baskets, charge, first_weights, make_grid, transition
from training.simulator import begin, prepare

TIGHT = [name for name in LABS if name not in ("mild", "tight-sizes")]
ROUNDING_BP = 0.02


@pytest.fixture(scope="module")
def foresight(tight: tuple[EpisodeBatch, Truth]) -> Floats:
    return clairvoyant_bp(tight[0])


@pytest.fixture(scope="module")
def priced(tight: tuple[EpisodeBatch, Truth]) -> Floats:
    return np.asarray(play_logged(tight[0], Priced(tight[1], LABS["tight"]))[1])


@pytest.fixture(scope="module")
def tight() -> tuple[EpisodeBatch, Truth]:
    return lab_episodes(np.random.default_rng(7), replace(LABS["tight"], orders=(16, 24)), 32)


def now(day: Day, observation: Any) -> Intent:
    return Intent(wish=day.remaining)


def above_by_chance(difference: Floats) -> float:
    """Mean of ``difference`` in its standard errors."""
    return float(difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference))))


def test_the_log_gain_is_what_is_defined() -> None:
    rich = LabMarket(orders=(2, 5), cushion_bp=20_000.0)
    batch, _ = lab_episodes(np.random.default_rng(1), rich, 20)
    day, gain = play_logged(batch, now)
    assert not day.conflicts.any()
    log = np.log(batch.bars.price)
    each = 1e4 * batch.orders.side * (log[:, 0] - log.mean(axis=1))
    expect = [each[at][live].mean() for at, live in enumerate(batch.orders.live)]
    np.testing.assert_allclose(gain, expect, rtol=1e-9, atol=1e-6)
    assert abs(play_logged(batch, twap)[1]).max() < ROUNDING_BP
    torched = play_logged(to_device(batch), now)[1]
    np.testing.assert_allclose(torched.numpy(), gain, rtol=1e-9, atol=1e-6)


def test_what_is_never_traded_gains_the_last_price() -> None:
    poor, _ = lab_episodes(np.random.default_rng(1), LabMarket(orders=(3, 3)), 10)
    buys = replace(poor.orders, side=np.full_like(poor.orders.side, -1))
    poor = replace(poor, orders=buys, cash_minor=0 * poor.cash_minor)
    day, gain = play_logged(poor, now)
    assert not day.cum_qty.any()
    log = np.log(poor.bars.price)
    np.testing.assert_allclose(gain, -1e4 * (log[:, -1] - log.mean(axis=1)).mean(axis=1))


def test_the_best_schedule_by_hand() -> None:
    """A buy that is best now and a sale that is best later: cash for half of the buy; selling
    half now costs 1, waiting with half of the buy costs 2."""
    worth = np.array([[4.0, 0.0, 0.0], [0.0, 2.0, 2.0]])
    flow = np.array([[-10.0, -10.0, -10.0], [10.0, 10.0, 10.0]])
    shares = best_schedule(worth, flow, 5.0)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (worth * shares).sum() == pytest.approx(4 + 1)
    free = best_schedule(worth, flow, 10.0)
    assert (worth * free).sum() == pytest.approx(6)


def test_no_policy_passes_the_clairvoyant_on_any_day(
    tight: tuple[EpisodeBatch, Truth], foresight: Floats, priced: Floats
) -> None:
    for gain in (priced, *(play_logged(tight[0], policy)[1] for policy in (now, twap))):
        assert (gain <= foresight + ROUNDING_BP).all()


def test_references_come_in_their_order(
    tight: tuple[EpisodeBatch, Truth], foresight: Floats, priced: Floats
) -> None:
    batch, truth = tight
    market = LABS["tight"]
    free, informed = unconstrained_bp(batch, truth, market), informed_bp(batch, truth, market)
    assert (informed <= free + 1e-9).all()
    assert above_by_chance(foresight - informed) > 3
    planned = play_logged(batch, Planner(truth))[1]
    assert (planned <= foresight + ROUNDING_BP).all()
    assert above_by_chance(planned - informed) < 3
    assert above_by_chance(priced - informed) < 3
    assert planned.mean() < priced.mean()  # by 9% in the 300 days of the table
    assert priced.mean() > 0.85 * informed.mean()


@pytest.mark.parametrize("name", TIGHT)
def test_cash_costs_much_in_tight_markets(name: str) -> None:
    assert cost_of_cash(name) >= 0.15


def test_cash_costs_little_in_the_mild_market() -> None:
    assert 0 < cost_of_cash("mild") < 0.05


def cost_of_cash(name: str) -> float:
    market = LABS[name]
    batch, truth = lab_episodes(np.random.default_rng(1), market, 48)
    informed = informed_bp(batch, truth, market).mean()
    return float(1 - informed / unconstrained_bp(batch, truth, market).mean())


@pytest.mark.parametrize("name", LABS)
def test_an_order_alone_reaches_its_bound(name: str) -> None:
    alone = replace(LABS[name], orders=(1, 1), buy_share=(0.0, 1.0), cushion_bp=20_000.0)
    batch, truth = lab_episodes(np.random.default_rng(8), alone, 2000)
    bound = unconstrained_bp(batch, truth, alone)
    gain = play_logged(batch, Priced(truth, alone, charged=False))[1]
    assert abs(above_by_chance(gain - bound)) < 3
    some = slice(0, 64)
    left = remaining(begin(batch, prepare(batch)), truth, alone).part(some)
    grid = make_grid(alone, 65)
    free = multipliers(grid, left, 0)[1]
    np.testing.assert_allclose(multipliers(grid, left, 20)[1], free)


def baskets(tight: tuple[EpisodeBatch, Truth]) -> Baskets:
    batch, truth = tight
    return remaining(begin(batch, prepare(batch)), truth, LABS["tight"]).part(slice(0, 8))


def test_the_slope_of_the_bound_is_its_derivative(tight: tuple[EpisodeBatch, Truth]) -> None:
    left, grid = baskets(tight), make_grid(LABS["tight"], 65)
    first = first_weights(grid, left)
    price = torch.full((8, 7), 7e-4, dtype=torch.float64)
    slope = charge(grid, left, first, price).slope
    for step in range(7):
        nudge = torch.zeros_like(price)
        nudge[:, step] = 1e-8
        up, down = (charge(grid, left, first, price + d).bound for d in (nudge, -nudge))
        np.testing.assert_allclose((up - down) / 2e-8, slope[:, step], atol=1e-4)


def test_no_other_multipliers_bound_lower(tight: tuple[EpisodeBatch, Truth]) -> None:
    left, grid = baskets(tight), make_grid(LABS["tight"], 33)
    best, bound = multipliers(grid, left, 60)
    longer = multipliers(grid, left, 400)[1]
    assert (bound - longer).max() * 1e4 < 0.05
    generator = torch.Generator().manual_seed(0)
    first = first_weights(grid, left)
    for _ in range(20):
        factor = torch.rand(best.shape, generator=generator, dtype=torch.float64) * 2
        other = charge(grid, left, first, best * factor + 1e-5 * factor).bound
        assert (other >= longer - 1e-8).all()


def test_expectations_on_the_grid_are_exact_for_what_is_linear_between_points() -> None:
    points = torch.linspace(-1, 1, 9, dtype=torch.float64)
    mean = torch.tensor([-0.4, 0.0, 2.0], dtype=torch.float64)
    weights = transition(points, mean, 0.3)
    np.testing.assert_allclose(weights.sum(-1), 1)
    np.testing.assert_allclose(weights @ points, mean, atol=1e-12)
    drawn = mean[:, None] + 0.3 * torch.from_numpy(np.random.default_rng(0).normal(size=200_000))
    kinked = drawn.clamp(min=0.25)
    np.testing.assert_allclose(weights @ points.clamp(min=0.25), kinked.mean(1), atol=4e-3)


def test_the_planner_expects_what_comes_on_average() -> None:
    batch, truth = lab_episodes(np.random.default_rng(3), LABS["tight-trend"], 3000)
    log, price = expected(truth, 2)
    paid = (batch.bars.price / batch.orders.prev_close[:, None])[:, 2:]
    # one symbol a day: the others share its gap
    for wrong in (np.log(paid) - log, paid - price):
        each = wrong[:, :, 0]
        assert (abs(each.mean(0)) < 4 * each.std(0) / np.sqrt(len(each))).all()
