"""Options without effect: each kind of method and of market names what it does not look at."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from training.baskets import BasketConfig
from training.channels import NetworkConfig
from training.config import DDQNConfig, PathwiseConfig, PPOConfig, TrainConfig
from training.ignored import LOOKED_AT, ignored, kinds
from training.methods import METHODS
from training.simulator import RewardConfig

WIDTHS = NetworkConfig(intention=8, key=8, message=8, imagined=2, gate=3)
TALK = ["intention", "key", "message", "imagined", "gate"]
SLOW = PPOConfig(lr=1e-4, max_grad_norm=1.0)
FILE = Path("bars.parquet")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, []),
        # networks: what a channel is made of
        ({"method": "iac-t", "network": WIDTHS}, ["imagined", "gate"]),
        ({"method": "iac-c", "network": WIDTHS}, ["key", "imagined", "gate"]),
        ({"method": "tarmac", "network": WIDTHS}, ["intention", "imagined", "gate"]),
        ({"method": "is", "network": WIDTHS}, ["intention", "gate"]),
        ({"method": "tarmac-pathwise-gated", "network": WIDTHS}, ["intention", "imagined"]),
        ({"method": "iac-t-pathwise-gated", "network": WIDTHS}, ["imagined"]),
        ({"method": "ppo", "network": WIDTHS}, TALK),
        ({"method": "ppo", "network": NetworkConfig(rounds=1)}, ["rounds"]),
        ({"network": dataclasses.replace(WIDTHS, rounds=0)}, TALK),
        # what learns
        ({"method": "iac-t", "ppo": SLOW}, []),
        ({"ppo": SLOW, "credit": "team"}, ["lr", "max_grad_norm", "credit"]),
        ({"method": "ddqn", "ppo": SLOW, "credit": "team"}, ["lr"]),
        ({"method": "ppo", "pathwise": PathwiseConfig(slope_lr=1.0)}, ["slope_lr"]),
        ({"method": "ppo", "ddqn": DDQNConfig(rows=1)}, ["rows"]),
        # attribution
        (
            {
                "method": "tarmac",
                "ppo": PPOConfig(q="learned", attribution=0.9, attribution_warmup=1),
                "network": NetworkConfig(imagined=9, gate=3),
            },
            ["imagined", "gate", "q", "attribution", "attribution_warmup"],
        ),
        ({"method": "iac-t", "ppo": PPOConfig(q="learned", attribution=0.9)}, []),
        (
            {
                "method": "iac-t",
                "ppo": PPOConfig(q="learned", attribution=0.9),
                "network": NetworkConfig(rounds=1),
            },
            ["attribution"],
        ),
        (
            {
                "method": "iac-t-observations",
                "ppo": PPOConfig(q="learned"),
                "network": NetworkConfig(intention=8),
            },
            [],
        ),
        (
            {"method": "tarmac-pathwise", "pathwise": PathwiseConfig(slope_attribution=1.0)},
            ["slope_attribution"],
        ),
        ({"pathwise": PathwiseConfig(slope_attribution=1.0)}, []),
        # rewards: the objective that weights are chosen by has sigma, whatever trains
        (
            {"method": "ppo-sparse", "credit": "team", "reward": RewardConfig(1.0, 9.0, scale=1.0)},
            ["alpha", "scale", "credit"],
        ),
        ({"method": "ppo", "credit": "team", "reward": RewardConfig(1.0, 9.0, scale=1.0)}, []),
        ({"shaped": False, "reward": RewardConfig(1.0, scale=1.0)}, ["scale", "shaped"]),
        (
            {"method": "ddqn", "reward": RewardConfig(penalised_from=0.3, penalised_fully=0.4)},
            ["penalised_from", "penalised_fully"],
        ),
        # markets
        (
            {"lab": "mild", "basket": TrainConfig().basket, "bars_per_step": 3, "bars_a_day": 24},
            ["bars_a_day", "bars_per_step"],
        ),
        ({"bars": FILE, "held_out_days": 7, "bars_a_day": 24}, ["bars_a_day", "held_out_days"]),
        ({"bars": FILE, "price_limit_bp": 1_000, "bars_per_step": 3}, []),
        ({"price_limit_bp": 1_000, "bars_per_step": 3, "held_out_days": 7}, ["price_limit_bp"]),
    ],
)
def test_options_without_effect_are_named(options: dict[str, Any], names: list[str]) -> None:
    assert ignored(TrainConfig(**options)) == names


def test_baskets_without_effect_are_named() -> None:
    usual = TrainConfig().basket
    fewer = dataclasses.replace(usual, buy_share=(0.1, 0.2))
    assert ignored(TrainConfig(basket=fewer)) == []
    assert ignored(TrainConfig(basket=dataclasses.replace(fewer, kind="one_sided"))) == [
        "buy_share"
    ]
    assert ignored(TrainConfig(lab="mild", basket=fewer)) == ["buy_share"]
    lots: BasketConfig = dataclasses.replace(usual, lot=100, kind="bwsl")
    assert ignored(TrainConfig(lab="mild", basket=lots)) == ["lot", "kind"]


def test_the_table_names_options_and_kinds_that_there_are() -> None:
    learned = PPOConfig(q="learned")
    markets: list[dict[str, Any]] = [{}, {"lab": "mild"}, {"bars": FILE}]
    made = [TrainConfig(m, ppo=learned, **market) for m in METHODS for market in markets]
    known = set[str]().union(*map(kinds, made))
    for part, lookers in LOOKED_AT.items():
        holder = getattr(TrainConfig(), part) if part else TrainConfig()
        assert set(lookers) <= {field.name for field in dataclasses.fields(holder)} | {"*"}
        assert all(set(asked.split()) <= known for asked in lookers.values())
