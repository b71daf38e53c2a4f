"""Which methods are compared with which: the differences that the hypotheses speak of.

A pair is two records on the same test.
"""

from __future__ import annotations

from typing import Any

LEADS = ("iac-t-pathwise-gated", "iac-t-pathwise", "iac-c-pathwise", "iac-t", "iac-c")
"""Methods that are compared with every other one."""
TALKING = ("tarmac", "commnet", "is", "tarmac-pathwise", "commnet-pathwise", "is-pathwise")
ALONE = ("ppo", "ddqn", "alone-pathwise", "iac-t-pathwise-silent")
"""Methods that are compared with each other: those that talk with those that do not. The silent one
is as deep as those that talk: what it gains is gained by depth."""
VARIANTS = ("bounded", "sizes", "five", "money", "team")
"""Ends of arenas in which a method is trained otherwise, and compared with itself: with bounded
slopes, on days of many orders or of few, for money, on everyone's reward."""
AGAINST_ALL = "twap-sync"
"""Rule that every method is compared with."""


def crossed(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """One method, trained in two ways: on all kinds of baskets, less on the kind that both are
    tested with; as one of VARIANTS, less as usual."""
    if a["seed"] is None or a["method"] != b["method"]:
        return False
    if a["study"] == "generators":
        return bool(a["arena"] == "sample-mixed" and b["arena"] == b["test"])
    changed = a["arena"] in [f"{b['arena']}-{how}" for how in VARIANTS]
    return bool(changed and a["rounds"] == b["rounds"])


def side_by_side(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Of one arena, where it matters: rules are trained nowhere."""
    return (a["arena"] == b["arena"] or a["study"] == "long") and _compared(a, b)


def _compared(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """The differences that the hypotheses speak of; nothing is compared with a bound."""
    if a["seed"] is None or b["method"] in ("informed", "clairvoyant"):
        return False
    if a["study"] == "rounds":
        return bool(a["method"] == b["method"] and a["rounds"] >= b["rounds"])
    pair = a["method"] in TALKING and b["method"] in ALONE
    pair |= a["method"] in ALONE and (b["seed"] is None or b["method"] in ALONE)
    pair |= a["method"] == f"{b['method']}-gated"
    return bool(a["method"] in LEADS or b["method"] == AGAINST_ALL or pair)
