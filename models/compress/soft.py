"""Losses on what a teacher says (Hinton, Vinyals & Dean 2015): both sides' logits are divided by a temperature, and
the loss is multiplied by its square, so that the gradients stay of one size. Divergences rather than cross-entropies:
the same gradients, and 0 where the student agrees.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.losses import CHUNK, widened

Kind = Literal["rows", "lists"]


@dataclass(frozen=True, slots=True)
class Soft:
    """How the soft loss is mixed with that of the labels.  weight: of the soft one; the labels have the rest."""

    weight: float
    temperature: float
    kind: Kind

    def mixed(self, hard: Tensor, logits: Tensor, teacher: Tensor, row_list: Tensor) -> Tensor:
        """hard: the loss by the labels.  logits, teacher float32 [n]; row_list int64 [n], ascending from 0."""
        if self.kind == "rows":
            soft = soft_rows(logits, teacher, self.temperature)
        else:
            soft = soft_lists(logits, teacher, row_list, self.temperature)
        return (1.0 - self.weight) * hard + self.weight * soft


class Taught(NamedTuple):
    """What a teacher says of the rows that a ranker learns from.  logits: float32 [n], of all rows."""

    soft: Soft
    logits: NDArray[np.float32]


def soft_rows(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of each row's probability from the teacher's, mean over rows.

    logits, teacher: float32 [n].
    """
    told = torch.sigmoid(teacher / temperature)
    both = [F.binary_cross_entropy_with_logits(side / temperature, told) for side in (logits, teacher)]
    return temperature**2 * (both[0] - both[1])


def soft_lists(logits: Tensor, teacher: Tensor, row_list: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence of the softmax over each list from the teacher's (ListNet's top-one probabilities, Cao et al. 2007),
    mean over lists.

    logits, teacher: float32 [n].  row_list: int64 [n], ascending from 0 without gaps.
    """
    told, found = (_log_softmax(side / temperature, row_list) for side in (teacher, logits))
    return temperature**2 * (told.exp() * (told - found)).sum() / (int(row_list[-1]) + 1)


class Vectors(NamedTuple):
    """One model's, of moments and of items; a product of the two is a logit.  moments: [n, d].  items: [k, d]."""

    moments: Tensor
    items: Tensor


def soft_items(own: Vectors, told: Vectors, temperature: float = 1.0, log_proposal: Tensor | None = None) -> Tensor:
    """Divergence of the softmax over items from the teacher's, mean over moments. Logits are made CHUNK moments at a
    time.

    own, told: of the same n > 0 moments and k items, each in dimensions of its own.  log_proposal: float32 [k],
    logarithm of the probability with which each of the k items was drawn; subtracted from both, as in
    `models.losses.sampled_softmax`. None for the whole catalogue.
    """
    shift = 0.0 if log_proposal is None else log_proposal

    def log_shares(moments: Tensor, items: Tensor) -> Tensor:
        return torch.log_softmax(widened(moments @ items.T) / temperature - shift, 1)

    losses = [
        F.kl_div(log_shares(ours, own.items), log_shares(theirs, told.items), reduction="sum", log_target=True)
        for ours, theirs in zip(torch.split(own.moments, CHUNK), torch.split(told.moments, CHUNK), strict=True)
    ]
    return temperature**2 * torch.stack(losses).sum() / len(own.moments)


def _log_softmax(logits: Tensor, row_list: Tensor) -> Tensor:
    num_lists = int(row_list[-1]) + 1
    top = logits.new_full((num_lists,), -torch.inf).scatter_reduce(0, row_list, logits.detach(), "amax")
    shifted = logits - top[row_list]
    total = logits.new_zeros(num_lists).index_add(0, row_list, shifted.exp())
    return shifted - total.log()[row_list]
