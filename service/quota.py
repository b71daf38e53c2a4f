"""How often a client may ask. Imports aiolimiter, auth and errors.

Each process counts for itself, in a leaky bucket of one second: a burst of that size is let
through, then the rate holds.
"""

from __future__ import annotations

from math import ceil

from aiolimiter import AsyncLimiter

from service.auth import Client
from service.errors import Code, Problem


class Quotas:
    """The buckets of the clients that have a rate."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, float], AsyncLimiter] = {}

    async def take(self, client: Client) -> None:
        """Count a request; raises RATE_LIMITED when the client has asked too often."""
        rate = client.rate_per_s_max
        if rate is None:
            return
        bucket = self._buckets.get((client.name, rate))
        if bucket is None:
            bucket = self._buckets[client.name, rate] = AsyncLimiter(
                max(rate, 1.0), _period_s(rate)
            )
        if not bucket.has_capacity():
            raise Problem(
                Code.RATE_LIMITED,
                f"send at most {rate:g} requests a second, then the same bytes again",
                retry_after_s=ceil(_period_s(rate)),
            )
        await bucket.acquire()


def _period_s(rate: float) -> float:
    """Seconds in which a bucket of at least one request empties."""
    return 1.0 if rate >= 1 else 1.0 / rate
