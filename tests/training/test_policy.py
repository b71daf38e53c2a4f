"""The network: masks, symmetry, what a new exchange says, and where gradients go."""

from __future__ import annotations

import pytest
import torch

from service.core.contract import ACTIONS, FEATURES
from training.policy import Network, NetworkConfig, greedy

CHANNELS = ("attention", "mean")


def network(rounds: int = 3, channel: str = "attention", loud: bool = True) -> Network:
    torch.manual_seed(0)
    made = Network(NetworkConfig(rounds=rounds, channel=channel))  # type: ignore[arg-type]
    if loud:  # a trained network's last layers are not near zero
        torch.nn.init.normal_(made.decide.weight, std=0.5)
        if made.channel is not None:
            torch.nn.init.normal_(made.channel.update[-1].weight, std=0.2)
    return made


def features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, len(FEATURES), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channel", CHANNELS)
def test_padding_is_neither_heard_nor_pooled(channel: str) -> None:
    net, seen = network(channel=channel), features(2, 9)
    live = torch.arange(9) < 5
    padded = net(seen, live.expand(2, 9))[1][..., :5, :]
    torch.testing.assert_close(padded, net(seen[:, :5])[1])
    hidden = net.extract(seen)
    value = net.value(hidden, live.expand(2, 9))[:, :5]
    alone = net.value(hidden[:, :5], torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(value, alone)


@pytest.mark.parametrize("channel", CHANNELS)
def test_orders_are_interchangeable(channel: str) -> None:
    net, seen = network(channel=channel), features(6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(net(seen)[1][:, order], net(seen[order])[1])


@pytest.mark.parametrize("channel", CHANNELS)
def test_an_untrained_exchange_decides_as_no_exchange(channel: str) -> None:
    net, seen = network(channel=channel, loud=False), features(4, 6)
    alone = net.decide(net.extract(seen)).softmax(-1)
    for k in range(3):
        torch.testing.assert_close(net(seen)[1][:, k], alone)


def test_no_rounds_is_one_decision_without_a_channel() -> None:
    net = network(rounds=0)
    actions, probabilities = net(features(5))
    assert net.channel is None
    assert actions.shape == (1, 5)
    assert probabilities.shape == (1, 5, ACTIONS)


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_one_intends_changes_what_others_decide(channel: str) -> None:
    net, seen = network(channel=channel), features(4)
    said = torch.zeros(4, dtype=torch.int64)
    hidden = net.extract(seen)

    def second(first: torch.Tensor) -> torch.Tensor:
        return net.exchange(hidden, None, lambda k, _: first).logits[1]

    other = said.clone()
    other[0] = ACTIONS - 1
    assert (second(said)[1:] - second(other)[1:]).abs().min() > 0


def test_no_gradient_flows_through_what_was_said() -> None:
    """Round 2 is trained with round 1's action as data."""
    net, heard = network(), []

    def choose(k: int, logits: torch.Tensor) -> torch.Tensor:
        heard.append(logits)
        return greedy(k, logits)

    net.exchange(net.extract(features(4)), None, choose)
    (grad,) = torch.autograd.grad(heard[1].sum(), heard[0], allow_unused=True)
    assert grad is None


def test_an_order_alone_hears_nobody() -> None:
    net = network(channel="mean")
    spoken = torch.randn(1, 80)
    assert net.channel is not None
    assert not net.channel.pool(spoken, None).any()
