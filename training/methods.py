"""Every method of the comparison: what its orders say, how it learns. Imports nothing of training.

The learned methods share extractor, decision head, rollout and observation; a row of METHODS is all
in which they differ (paper.md section 8). Rules are listed in ``training/rules.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Channel = Literal["attention", "mean", "imagination"]
Attribution = Literal["none", "baseline", "raw"]
Learns = Literal["ppo", "pathwise", "ddqn"]
MethodName = Literal[
    "iac-t",
    "iac-c",
    "is",
    "tarmac",
    "commnet",
    "ppo",
    "ppo-sparse",
    "ddqn",
    "iac-t-pathwise",
    "iac-c-pathwise",
    "is-pathwise",
    "tarmac-pathwise",
    "commnet-pathwise",
    "alone-pathwise",
    "iac-t-unattributed",
    "iac-t-raw",
    "iac-t-observations",
    "iac-t-silent",
    "iac-t-pathwise-silent",
    "iac-t-pathwise-data",
    "iac-t-pathwise-gated",
    "tarmac-pathwise-gated",
]


@dataclass(frozen=True, slots=True)
class Method:
    """One learned method.

    ``channel`` pools messages over orders (None: orders do not talk). ``intends``: messages carry
    intended actions beside hidden states. ``learns``: by PPO, along the slope of what days earn, or
    by the value of actions. ``attribution`` (PPO): how rounds before the last are trained: not at
    all; on what an intention adds to the one before it; or on its whole value. ``through``
    (pathwise): slopes pass through what was said. ``silent``: messages are zero. ``gated``: what is
    said holds products of the hidden state and what is intended too. ``reward``: of every step, or
    one verdict at the end of the day.
    """

    title: str
    channel: Channel | None = None
    intends: bool = False
    learns: Learns = "ppo"
    attribution: Attribution = "none"
    through: bool = True
    silent: bool = False
    gated: bool = False
    reward: Literal["dense", "sparse"] = "dense"

    @property
    def decides_each_round(self) -> bool:
        """Whether every round ends with an intended action, or only the last one with an action."""
        return self.intends or self.attribution != "none"


METHODS: dict[MethodName, Method] = {
    "iac-t": Method("IaC^T", "attention", intends=True, attribution="baseline"),
    "iac-c": Method("IaC^C", "mean", intends=True, attribution="baseline"),
    "is": Method("IS", "imagination"),
    "tarmac": Method("TarMAC", "attention"),
    "commnet": Method("CommNet", "mean"),
    "ppo": Method("PPO"),
    "ppo-sparse": Method("PPO, sparse reward", reward="sparse"),
    "ddqn": Method("DDQN", learns="ddqn"),
    # the same channels, trained along the slope of what days earn
    "iac-t-pathwise": Method("IaC^T, pathwise", "attention", intends=True, learns="pathwise"),
    "iac-c-pathwise": Method("IaC^C, pathwise", "mean", intends=True, learns="pathwise"),
    "is-pathwise": Method("IS, pathwise", "imagination", learns="pathwise"),
    "tarmac-pathwise": Method("TarMAC, pathwise", "attention", learns="pathwise"),
    "commnet-pathwise": Method("CommNet, pathwise", "mean", learns="pathwise"),
    "alone-pathwise": Method("no exchange, pathwise", learns="pathwise"),
    # ablations of IaC^T
    "iac-t-unattributed": Method("no attribution", "attention", intends=True),
    "iac-t-raw": Method(
        "attribution without baseline", "attention", intends=True, attribution="raw"
    ),
    "iac-t-observations": Method("observation messages", "attention", attribution="baseline"),
    "iac-t-silent": Method(
        "zeroed messages", "attention", intends=True, attribution="baseline", silent=True
    ),
    "iac-t-pathwise-silent": Method(
        "zeroed messages, pathwise", "attention", intends=True, learns="pathwise", silent=True
    ),
    "iac-t-pathwise-data": Method(
        "no slope through intentions", "attention", intends=True, learns="pathwise", through=False
    ),
    # beyond the paper: products in what is said, and the same without intentions to compare with
    "iac-t-pathwise-gated": Method(
        "IaC^T, gated, pathwise", "attention", intends=True, learns="pathwise", gated=True
    ),
    "tarmac-pathwise-gated": Method(
        "TarMAC, gated, pathwise", "attention", learns="pathwise", gated=True
    ),
}
"""The learned methods by name: the paper's table, its channels trained pathwise, ablations, and
what goes beyond the paper."""
