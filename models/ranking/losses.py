"""Losses of a batch of candidate lists, as plain functions.

logits float32 [n], labels float32 [n], row_list int64 [n] the list of each row, ascending from 0.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def list_loss(name: str, logits: Tensor, labels: Tensor, row_list: Tensor) -> Tensor:
    """The loss of this name in `[train.ranker]`. log_loss and squared take each row for itself."""
    if name == "bpr":
        return bpr(logits, labels, row_list)
    if name == "softmax":
        return softmax(logits, labels, row_list)
    if name == "squared":
        return F.mse_loss(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels)


def bpr(logits: Tensor, labels: Tensor, row_list: Tensor) -> Tensor:
    """-log sigmoid(positive - negative), over all such pairs of a list (Rendle et al. 2009), then over the lists that
    have one; 0 where none has."""
    positive, negative = _pairs(labels > 0, row_list)
    losses = F.softplus(logits[negative] - logits[positive])
    return _mean_of_lists(losses, row_list[positive])


def softmax(logits: Tensor, labels: Tensor, row_list: Tensor, log_proposal: Tensor | None = None) -> Tensor:
    """-log of the positive's share among itself and its list's negatives, over a list's positives, then over lists.

    The other positives of a list are masked.  log_proposal: float32 [n], logarithm of the probability with which a
    row came into the list, subtracted from its logit (Jean et al. 2015): the loss is then of the softmax over the
    whole catalogue. None where every row is certain.
    """
    if log_proposal is not None:
        logits = logits - log_proposal
    positive, negative = labels > 0, labels <= 0
    num_lists = int(row_list[-1]) + 1
    with torch.no_grad():
        lowest = torch.full((num_lists,), -torch.inf)
        top = lowest.scatter_reduce(0, row_list[negative], logits[negative], "amax")
    contested = positive & (top[row_list] > -torch.inf)
    shifted = (logits[negative] - top[row_list[negative]]).exp()
    total = torch.ones(num_lists).scatter_reduce(0, row_list[negative], shifted, "sum", include_self=False)
    of = row_list[contested]
    return _mean_of_lists(F.softplus(total[of].log() + top[of] - logits[contested]), of)


def _pairs(positive: Tensor, row_list: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of every (positive, negative) of one list, int64 [p] each, ascending by list."""
    positives, negatives = positive.nonzero()[:, 0], (~positive).nonzero()[:, 0]
    counts = torch.bincount(row_list[negatives], minlength=int(row_list[-1]) + 1)
    starts = counts.cumsum(0) - counts  # negatives ascend by list
    of = row_list[positives]
    repeats = counts[of]
    first = torch.repeat_interleave(positives, repeats)
    inside = torch.arange(len(first)) - torch.repeat_interleave(repeats.cumsum(0) - repeats, repeats)
    return first, negatives[torch.repeat_interleave(starts[of], repeats) + inside]


def _mean_of_lists(losses: Tensor, of: Tensor) -> Tensor:
    """Mean over the lists of each list's mean.  losses [p], of: their lists, ascending."""
    if not losses.shape[0]:
        return losses.sum()
    _, place, counts = torch.unique_consecutive(of, return_inverse=True, return_counts=True)
    mean: Tensor = (losses / counts[place]).sum() / counts.shape[0]
    return mean
