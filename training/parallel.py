"""One training run over several processes: each plays its share of the days.

Every rank draws the same days and the same random numbers and keeps its own rows of both, sums are
taken over all ranks, and gradients are added before a step. So W processes learn what one process
with the joined batch learns, to float tolerance. Started by torchrun; alone, nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from training.episodes import EpisodeBatch, some_days
from training.errors import Refused


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process reports, saves and exports."""
        return self.rank == 0

    def own(self, days: int) -> slice:
        """The rows of this rank among ``days``, which ``world`` must divide."""
        if days % self.world:
            raise Refused(f"{days} days cannot be shared by {self.world} processes evenly")
        each = days // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def share(self, batch: EpisodeBatch) -> EpisodeBatch:
        """This rank's days of ``batch``."""
        if self.world == 1:
            return batch
        return some_days(batch, self.own(len(batch.cash_minor)))

    def total(self, value: Tensor) -> Tensor:
        """The sum of ``value`` over all ranks."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def any(self, value: bool, device: str) -> bool:
        """Whether ``value`` is true on one rank at least."""
        if self.world == 1:
            return value
        return bool(self.total(torch.tensor(float(value), device=device)) > 0)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all ranks."""
        if self.world == 1:
            return
        held = [p.grad for p in parameters if p.grad is not None]
        flat = self.total(torch.cat([gradient.flatten() for gradient in held]))
        at = 0
        for gradient in held:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()


ALONE = Ranks()


def join(device: str) -> Ranks:
    """The ranks that torchrun's environment speaks of; alone where there is none."""
    if "WORLD_SIZE" not in os.environ:
        return ALONE
    if device == "cuda":  # each process of a host has a GPU of its own
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """:func:`join` for as long as it is needed.

    Ranks leave together: one that left while another is still at work would take that one's
    connection away. An error is of one rank, and does not wait for the others.
    """
    ranks = join(device)
    try:
        yield ranks
        if ranks.world > 1:
            dist.barrier()
    finally:
        if ranks.world > 1:
            dist.destroy_process_group()
