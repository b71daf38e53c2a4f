"""The twin plays what the simulator plays, and its slopes are what another action would change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.core import metrics
from service.core.orders import Proceeds
from service.core.policy import Intent, grid_wish
from service.play.sample import SampleMarket
from training.baskets import BasketConfig
from training.channels import NetworkConfig
from training.config import TrainConfig
from training.episodes import EpisodeBatch, draw, to_device
from training.learner import learner
from training.markets import generated
from training.methods import MethodName
from training.pathwise import Pathwise
from training.policy import Choose, Exchange, NetworkPolicy
from training.simulator import RewardConfig, begin, play, prepare, weights
from training.twin import Bounds, Twin, bounded, features, live, open_twin

from .small import episodes

FREE = RewardConfig(alpha=0.0, sigma=0.0)


def batch_of(seed: int, cash: int, **basket: object) -> EpisodeBatch:
    made = to_device(episodes(seed, days=4, orders=(5, 5), cash_buffer_bp=1_000, **basket))
    return replace(made, cash_minor=made.cash_minor * cash)


def actions_of(batch: EpisodeBatch, seed: int) -> torch.Tensor:
    shape = (batch.rules.steps, *batch.orders.side.shape)
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed))


def played(batch: EpisodeBatch, actions: torch.Tensor) -> tuple[Twin, torch.Tensor, torch.Tensor]:
    """The twin at the end, what each day earned, and the one-hot actions that can be sloped."""
    market = prepare(batch)
    twin = open_twin(begin(batch, market), batch.orders.live)
    chosen = torch.nn.functional.one_hot(actions, 5).float().requires_grad_()
    earned = torch.zeros(len(batch.cash_minor))
    for t in range(batch.rules.steps):
        twin, gained, step = live(twin, chosen[t], market, FREE)
        left = step.day.remaining / step.day.orders.order_qty.clamp(min=1)
        torch.testing.assert_close(twin.left.detach(), left.float())
        torch.testing.assert_close(twin.cash.detach(), step.day.free_cash_minor.float())
        earned = earned + gained
    return twin, earned, chosen


@pytest.mark.parametrize("proceeds", Proceeds)
@pytest.mark.parametrize("cash", [0, 1, 50])
def test_what_a_twin_earns_is_the_gain_of_the_day(cash: int, proceeds: Proceeds) -> None:
    batch = batch_of(1, cash, proceeds=proceeds)
    actions = actions_of(batch, 2)
    _, earned, _ = played(batch, actions)
    day = play(batch, lambda day, _: Intent(grid_wish(day, actions[day.step])))
    eg = torch.as_tensor(metrics.execution_gain_bp(day)).mean(dim=-1)
    torch.testing.assert_close(1e4 * earned.detach().double(), eg, atol=0.02, rtol=1e-3)


@pytest.mark.parametrize("proceeds", Proceeds)
def test_a_slope_is_what_another_quarter_would_have_earned(proceeds: Proceeds) -> None:
    """With ample cash a day is linear in each action, until the order is done."""
    batch = batch_of(3, 50, proceeds=proceeds)
    actions = torch.zeros_like(actions_of(batch, 0))  # all is left for the end: nothing binds
    _, earned, chosen = played(batch, actions)
    (slope,) = torch.autograd.grad(earned.sum(), chosen)
    for t, b, i in [(0, 0, 0), (1, 1, 3), (2, 3, 4), (0, 2, 2)]:
        other = actions.clone()
        other[t, b, i] = 1
        change = played(batch, other)[1].detach()[b] - earned.detach()[b]
        expected = slope[t, b, i, 1] - slope[t, b, i, 0]
        assert float(change) == pytest.approx(float(expected), rel=0.02, abs=2e-6)


def test_cash_that_is_short_ties_the_orders_together() -> None:
    """What a sale does changes what buys may; with ample cash it does not."""
    slopes = []
    for cash in (50, 0):
        batch = batch_of(3, cash, proceeds=Proceeds.SAME_STEP)
        actions = torch.ones_like(actions_of(batch, 0))
        market = prepare(batch)
        twin = open_twin(begin(batch, market), batch.orders.live)
        chosen = torch.nn.functional.one_hot(actions[0], 5).float().requires_grad_()
        after, _, _ = live(twin, chosen, market, FREE)
        buys = batch.orders.side < 0
        (slope,) = torch.autograd.grad((after.left * buys).sum(), chosen)
        slopes.append(float((slope[..., 1] * ~buys).abs().sum()))
    assert slopes[0] == 0.0
    assert slopes[1] > 0.0


def test_the_twin_sees_what_the_service_sees() -> None:
    from service.core.observe import observe

    batch = batch_of(5, 1)
    twin = open_twin(begin(batch, prepare(batch)), batch.orders.live)
    seen = observe(twin.day)
    assert torch.equal(features(twin, seen), seen.features)


def slopes_by_round(method: MethodName, part: float, loud: bool) -> torch.Tensor:
    """Slopes of what days earn in the logits of three steps (the last is forced) and three rounds,
    ``[T, K, B, N, A]``; ``loud``: with messages that change something, as after training."""
    config = TrainConfig(method=method, network=NetworkConfig(rounds=3, hidden=16))
    options = replace(config.pathwise, slope_attribution=part)
    learns = learner(replace(config, pathwise=options))
    assert isinstance(learns, Pathwise)
    assert learns.network.talk is not None
    if loud:
        torch.nn.init.normal_(learns.network.talk.update[-1].weight, std=0.2)
    heard, exchange = [], learns.network.exchange

    def listen(features: torch.Tensor, live: torch.Tensor, choose: Choose) -> Exchange:
        return exchange(features, live, lambda k, logits: choose(k, heard.append(logits) or logits))

    learns.network.exchange = listen
    earned = learns.play(batch_of(3, 1), FREE).earned.sum()
    slopes = torch.stack(torch.autograd.grad(earned, heard))
    return slopes.unflatten(0, (-1, 3))[:-1]


def test_slopes_reach_every_round_through_what_was_said() -> None:
    said = slopes_by_round("iac-t-pathwise", 0.0, loud=True)
    assert said.isfinite().all()
    assert (said.abs().sum(dim=(2, 3, 4)) > 0).all()
    data = slopes_by_round("iac-t-pathwise-data", 0.0, loud=True)
    assert not data[:, :-1].any()
    assert (data[:, -1].abs().sum(dim=(1, 2, 3)) > 0).all()


def test_earlier_rounds_are_told_part_of_the_slope_of_what_trades() -> None:
    told = slopes_by_round("iac-t-pathwise", 0.3, loud=False)
    assert (told[:, -1].abs().sum(dim=(1, 2, 3)) > 0).all()
    for earlier in (0, 1):
        torch.testing.assert_close(told[:, earlier], 0.3 * told[:, -1])


def test_slopes_stay_finite() -> None:
    learns = learner(TrainConfig(method="iac-t-pathwise", network=NetworkConfig(rounds=3)))
    for seed in range(3):
        found = learns.improve(batch_of(seed, seed % 2), 0)
        assert np.isfinite(list(found.values())).all()
    assert {"entropy_1", "entropy_2", "entropy_3", "slope_norm"} <= found.keys()
    assert all(part.isfinite().all() for part in learns.network.parameters())


def test_slopes_of_baskets_with_one_side_only_stay_finite() -> None:
    """Sales alone need no cash: ratios to what the buys need must not steepen them."""
    config = TrainConfig(method="iac-t-pathwise", network=NetworkConfig(rounds=1, hidden=16))
    learns = learner(config)
    rng, basket = np.random.default_rng(5), BasketConfig(orders=(3, 7), kind="one_sided")
    market = generated(rng, SampleMarket(), 64, 48, 6, 7)
    batch = to_device(draw(rng, market, basket, 64), "cpu")
    for iteration in range(2):
        found = learns.improve(batch, iteration)
        assert found["slope_norm"] < 100.0


def test_aversion_to_risk_takes_spread_out_of_what_days_earn() -> None:
    spread = {}
    for risk in (0.0, 0.2):
        config = TrainConfig(method="iac-c-pathwise", iterations=12, network=NetworkConfig(1, 16))
        config = replace(config, pathwise=replace(config.pathwise, risk_per_bp=risk, slope_lr=1e-2))
        learns = learner(config)
        for iteration in range(config.iterations):
            learns.improve(to_device(episodes(iteration, days=64, orders=(6, 6))), iteration)
        day = play(to_device(episodes(99, days=200, orders=(6, 6))), NetworkPolicy(learns.network))
        spread[risk] = float(torch.as_tensor(metrics.execution_gain_bp(day)).mean(dim=-1).std())
    assert spread[0.2] < 0.7 * spread[0.0], spread


def test_a_bound_cuts_the_slope_that_comes_back_and_nothing_else() -> None:
    value = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    held = bounded(value * 1.0, torch.tensor(5.0))
    assert torch.equal(held, value)
    (slope,) = torch.autograd.grad((held * torch.tensor([2.0, -50.0, torch.inf])).sum(), value)
    assert slope.tolist() == [2.0, -5.0, 5.0]
    assert bounded(torch.ones(2), torch.tensor(0.0)).tolist() == [1.0, 1.0]  # no slope: nothing


def slope_of_the_open(bounds: Bounds | None) -> float:
    """Steepest slope of what a day earns in what is left at its opening, of orders that answer a
    little more left with a hundred times more wish, in every step."""
    batch = batch_of(3, 50)
    market, live_orders = prepare(batch), batch.orders.live
    first = twin = open_twin(begin(batch, market), live_orders)
    first.left.requires_grad_()
    earned, quarter = torch.zeros(()), torch.tensor([-1.0, 1.0, 0.0, 0.0, 0.0])
    for _ in range(batch.rules.steps):
        wish = torch.nn.functional.one_hot(torch.zeros_like(batch.orders.side), 5).float()
        steep = 100 * (twin.left - twin.left.detach())[..., None] * quarter
        twin, gained, _ = live(twin, wish + steep, market, FREE)
        if bounds is not None:
            bounds.keep(twin)
        earned = earned + gained.sum()
    (slope,) = torch.autograd.grad(earned, first.left)
    return float(slope.abs().max())


def test_slopes_that_multiply_from_step_to_step_are_bounded() -> None:
    """Nothing that is left can be worth more than prices move; unbounded slopes say otherwise."""
    days = torch.ones(4)
    assert slope_of_the_open(None) > 1.0  # more than the order's whole value
    assert slope_of_the_open(Bounds(torch.inf * days, torch.inf * days)) == slope_of_the_open(None)
    # the opening itself is not bounded: what comes back to it is multiplied once more
    assert slope_of_the_open(Bounds(1e-6 * days, 1e-3 * days)) < 0.2


def test_a_bound_that_nothing_reaches_changes_nothing() -> None:
    norms = []
    for slope_bp_max in (0.0, 1e30, 10.0):
        config = TrainConfig(method="iac-t-pathwise", network=NetworkConfig(rounds=3, hidden=16))
        options = replace(config.pathwise, slope_bp_max=slope_bp_max)
        found = learner(replace(config, pathwise=options)).improve(batch_of(3, 1), 0)
        norms.append(found["slope_norm"])
    assert norms[0] == norms[1]
    assert norms[2] < 0.5 * norms[0]


def test_the_twin_counts_orders_as_the_simulator_does() -> None:
    batch, money = batch_of(1, 50), replace(FREE, weight="value")
    market, actions = prepare(batch), actions_of(batch, 2)
    twin, earned = open_twin(begin(batch, market), batch.orders.live), torch.zeros(4)
    for t in range(batch.rules.steps):
        chosen = torch.nn.functional.one_hot(actions[t], 5).float()
        twin, gained, _ = live(twin, chosen, market, money)
        earned = earned + gained
    eg = torch.as_tensor(metrics.execution_gain_bp(twin.day)) * weights(twin.day, money)
    torch.testing.assert_close(1e4 * earned.double(), eg.mean(dim=-1), atol=0.02, rtol=1e-3)
