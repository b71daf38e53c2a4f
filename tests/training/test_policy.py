"""The network: masks, symmetry, what a new exchange says, and where gradients go."""

from __future__ import annotations

import pytest
import torch

from service.core.contract import ACTIONS, FEATURES
from training.channels import Imagination, NetworkConfig, Talk
from training.methods import METHODS
from training.policy import Network, greedy

METHOD_NAMES = ("iac-t", "iac-c", "is", "tarmac", "commnet")


def network(rounds: int = 3, method: str = "iac-t", loud: bool = True) -> Network:
    torch.manual_seed(0)
    made = Network(NetworkConfig(rounds=rounds), METHODS[method])  # type: ignore[index]
    if loud:  # a trained network's last layers are not near zero
        torch.nn.init.normal_(made.decide.weight, std=0.5)
        if made.talk is not None:
            torch.nn.init.normal_(made.talk.update[-1].weight, std=0.2)
    return made


def features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, len(FEATURES), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_padding_is_neither_heard_nor_pooled(method: str) -> None:
    net, seen = network(method=method), features(2, 9)
    live = torch.arange(9) < 5
    padded = net(seen, live.expand(2, 9))[1][..., :5, :]
    torch.testing.assert_close(padded, net(seen[:, :5])[1])
    hidden = net.extract(seen)
    value = net.value(hidden, live.expand(2, 9))[:, :5]
    alone = net.value(hidden[:, :5], torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(value, alone)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_orders_are_interchangeable(method: str) -> None:
    net, seen = network(method=method), features(6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(net(seen)[1][:, order], net(seen[order])[1])


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_an_untrained_exchange_decides_as_no_exchange(method: str) -> None:
    net, seen = network(method=method, loud=False), features(4, 6)
    alone = net.decide(net.extract(seen)).softmax(-1)
    probabilities = net(seen)[1]
    for k in range(probabilities.shape[1]):
        torch.testing.assert_close(probabilities[:, k], alone)


def test_no_rounds_is_one_decision_without_a_channel() -> None:
    net = network(rounds=0)
    actions, probabilities = net(features(5))
    assert net.talk is None
    assert actions.shape == (1, 5)
    assert probabilities.shape == (1, 5, ACTIONS)


@pytest.mark.parametrize("method", ["iac-t", "iac-c"])
def test_what_one_intends_changes_what_others_decide(method: str) -> None:
    net, seen = network(method=method), features(4)
    said = torch.zeros(4, dtype=torch.int64)

    def second(first: torch.Tensor) -> torch.Tensor:
        return net.exchange(seen, None, lambda k, _: first).logits[1]

    other = said.clone()
    other[0] = ACTIONS - 1
    assert (second(said)[1:] - second(other)[1:]).abs().min() > 0


def test_no_gradient_flows_through_what_was_said() -> None:
    """Round 2 is trained with round 1's action as data."""
    net, heard = network(), []

    def choose(k: int, logits: torch.Tensor) -> torch.Tensor:
        heard.append(logits)
        return greedy(k, logits)

    net.exchange(features(4), None, choose)
    (grad,) = torch.autograd.grad(heard[1].sum(), heard[0], allow_unused=True)
    assert grad is None


def test_an_order_alone_hears_nobody() -> None:
    net = network(method="iac-c")
    spoken = torch.randn(1, 80)
    assert isinstance(net.talk, Talk)
    assert not net.talk.pool(spoken, None).any()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_what_one_sees_changes_what_others_decide(method: str) -> None:
    net, seen = network(method=method), features(4)
    other = seen.clone()
    other[0] += 1.0
    changed = (net(seen)[1] - net(other)[1])[-1, 1:].abs()
    assert changed.max() > 0


def test_zeroed_messages_say_nothing() -> None:
    net, seen = network(method="iac-t-silent"), features(4)
    other = seen.clone()
    other[0] += 1.0
    assert torch.equal(net(seen)[1][:, 1:], net(other)[1][:, 1:])


def test_methods_without_intentions_decide_once() -> None:
    assert network(method="tarmac")(features(4))[0].shape == (1, 4)
    assert network(method="iac-t-observations")(features(4))[0].shape == (3, 4)


def test_an_imagination_learns_what_follows() -> None:
    """Its error on a world that moves by a constant falls; the policy gets no gradient from it."""
    net = network(method="is")
    assert isinstance(net.talk, Imagination)
    optimizer = torch.optim.Adam(net.talk.parameters(), lr=1e-2)
    seen, actions = features(16, 5), torch.ones(16, 5, dtype=torch.int64)
    everything = torch.ones(16, 5, dtype=torch.bool)
    losses = []
    for _ in range(40):
        loss = net.talk.model_loss(seen, actions, seen + 0.5, everything, everything)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    imagined, _ = net.talk.prepare(seen, net._alone)
    assert not imagined.requires_grad
