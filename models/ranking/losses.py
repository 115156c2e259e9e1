"""Losses of a batch of candidate lists, as plain functions.

logits float32 [n], labels float32 [n], row_list int64 [n] the list of each row, ascending from 0.
weights float32 [n], of each row, or None for 1 each. They multiply what a row adds to the sums; what the sums are
divided by stays, so that a click that counts for four gives the gradient of four (Joachims et al. 2017).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def list_loss(name: str, logits: Tensor, labels: Tensor, row_list: Tensor, weights: Tensor | None = None) -> Tensor:
    """The loss of this name in `[train.ranker]`. log_loss and squared take each row for itself.

    Raises ValueError for weights with squared, which is for ratings.
    """
    if name == "bpr":
        return bpr(logits, labels, row_list, weights)
    if name == "softmax":
        return softmax(logits, labels, row_list, weights)
    if name == "squared":
        if weights is not None:
            raise ValueError("weights are of clicks; squared is the loss of ratings")
        return F.mse_loss(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels, weights)


def loss_weight(name: str, labels: NDArray[np.float32], row_list: NDArray[np.int64]) -> int:
    """What `list_loss` divides by: rows, or with bpr and softmax the lists that have both kinds of rows."""
    if name in ("log_loss", "squared"):
        return len(labels)
    return len(np.intersect1d(row_list[labels > 0], row_list[labels <= 0]))


def bpr(logits: Tensor, labels: Tensor, row_list: Tensor, weights: Tensor | None = None) -> Tensor:
    """-log sigmoid(positive - negative), over all such pairs of a list (Rendle et al. 2009), then over the lists that
    have one; 0 where none has. A pair weighs the product of its two rows."""
    positive, negative = _pairs(labels > 0, row_list)
    losses = F.softplus(logits[negative] - logits[positive])
    if weights is not None:
        losses = losses * weights[positive] * weights[negative]
    return _mean_of_lists(losses, row_list[positive])


def softmax(logits: Tensor, labels: Tensor, row_list: Tensor, weights: Tensor | None = None) -> Tensor:
    """-log of the positive's share among itself and its list's negatives, over a list's positives, then over lists.

    The other positives of a list are masked. A positive's weight is that of its term; a negative of weight w is in the
    sum w times.
    """
    positive, negative = labels > 0, labels <= 0
    if weights is not None:
        logits = torch.where(negative, logits + weights.clamp(min=1e-6).log(), logits)
    num_lists = int(row_list[-1]) + 1
    with torch.no_grad():
        lowest = logits.new_full((num_lists,), -torch.inf)
        top = lowest.scatter_reduce(0, row_list[negative], logits[negative], "amax")
    contested = positive & (top[row_list] > -torch.inf)
    shifted = (logits[negative] - top[row_list[negative]]).exp()
    total = logits.new_ones(num_lists).scatter_reduce(0, row_list[negative], shifted, "sum", include_self=False)
    of = row_list[contested]
    losses = F.softplus(total[of].log() + top[of] - logits[contested])
    return _mean_of_lists(losses if weights is None else losses * weights[contested], of)


def _pairs(positive: Tensor, row_list: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of every (positive, negative) of one list, int64 [p] each, ascending by list."""
    positives, negatives = positive.nonzero()[:, 0], (~positive).nonzero()[:, 0]
    counts = torch.bincount(row_list[negatives], minlength=int(row_list[-1]) + 1)
    starts = counts.cumsum(0) - counts  # negatives ascend by list
    of = row_list[positives]
    repeats = counts[of]
    first = torch.repeat_interleave(positives, repeats)
    before = torch.repeat_interleave(repeats.cumsum(0) - repeats, repeats)
    inside = torch.arange(len(first), device=first.device) - before
    return first, negatives[torch.repeat_interleave(starts[of], repeats) + inside]


def _mean_of_lists(losses: Tensor, of: Tensor) -> Tensor:
    """Mean over the lists of each list's mean.  losses [p], of: their lists, ascending."""
    if not losses.shape[0]:
        return losses.sum()
    _, place, counts = torch.unique_consecutive(of, return_inverse=True, return_counts=True)
    mean: Tensor = (losses / counts[place]).sum() / counts.shape[0]
    return mean
