"""Training shared by several processes (torchrun): which rows of a batch are this process's, and sums over all.

Every process draws the same batch from the same seed and works on its own rows; the gradient is that of the whole
batch, whatever the number of processes. One process needs none of this and pays for none of it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from models.hardware import CPU, Hardware

TIMEOUT = timedelta(minutes=30)  # the longest that one process may be busy alone: preparing, or a closed form


class World(NamedTuple):
    """rank: of this process, from 0.  size: processes in all."""

    rank: int
    size: int


class BatchLoss(NamedTuple):
    """mean: of the loss over this process's rows of a batch.  weight: what the mean was divided by."""

    mean: Tensor
    weight: float


def world() -> World:
    if not distributed.is_initialized():
        return World(0, 1)
    return World(distributed.get_rank(), distributed.get_world_size())


def is_first() -> bool:
    """Whether this process writes the files and shows the progress."""
    return world().rank == 0


def own_rows(count: int) -> slice:
    """This process's of `count` rows; the shares differ by one row at most."""
    rank, size = world()
    return slice(rank * count // size, (rank + 1) * count // size)


def place_on_machine() -> int:
    """This process's number among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined(hardware: Hardware = CPU) -> Iterator[World]:
    """Join the other processes where torchrun started this one; alone otherwise.

    On GPUs gradients are summed there, by NCCL; what is counted on the CPU is summed by gloo all the same.
    """
    if hardware.device.type == "cuda":
        torch.cuda.set_device(hardware.device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1)
        return
    backend = "cpu:gloo,cuda:nccl" if hardware.device.type == "cuda" else "gloo"
    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    # torchrun's store keeps the addresses of processes that were killed: found there, they would be waited for
    store = distributed.PrefixStore(f"life_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield world()
    finally:
        distributed.destroy_process_group()


def wait() -> None:
    """Until all processes are here."""
    if world().size > 1:
        distributed.barrier()


def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over all processes of their arrays of one shape."""
    if world().size == 1:
        return values
    summed = torch.from_numpy(values.copy())
    distributed.all_reduce(summed)
    return summed.numpy()


def of_all(own: BatchLoss) -> tuple[float, float]:
    """The mean over the rows of all processes, and its weight."""
    mean = float(own.mean.detach()) if own.weight else 0.0
    summed, weight = total(np.array([mean * own.weight, own.weight])).tolist()
    return summed / max(weight, 1e-6), weight


def gather(value: Any) -> list[Any]:
    """What each process gave, by rank."""
    found: list[Any] = [None] * world().size
    if world().size == 1:
        return [value]
    distributed.all_gather_object(found, value)
    return found


class SharedStep(nn.Module):
    """One step's loss. Called, it gives the loss to go backward from, and the mean over the rows of all processes.

    DistributedDataParallel averages the gradients of the processes while they are made. Each one's loss is weighted by
    its share of the batch, so that the average is the gradient of the batch's mean.
    """

    def __init__(self, model: nn.Module, loss: Callable[[int], BatchLoss]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, step: int) -> tuple[Tensor, float]:
        own = self._loss(step)
        if world().size == 1:
            return own.mean, float(own.mean.detach())
        mean, weight = of_all(own)
        if not own.weight:  # nothing of a small last batch is here: no gradient, but the others wait for one
            return torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0.0, mean
        return own.mean * (own.weight * world().size / weight), mean


def shared(step: SharedStep) -> nn.Module:
    """The step as all processes take it together. Their models are alike, having been made from one seed."""
    if world().size == 1:
        return step
    # a model may have parts that a batch does not touch
    return DistributedDataParallel(step, find_unused_parameters=True, forward_sync_buffers=False, init_sync=False)
