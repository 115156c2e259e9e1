"""Losses as plain functions."""

import torch
from torch import Tensor
from torch.nn import functional as F


def sampled_softmax(
    user_vectors: Tensor,
    positives: Tensor,
    positive_vectors: Tensor,
    negatives: Tensor,
    negative_vectors: Tensor,
    log_proposal: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy over the positive and shared sampled negatives (Jean et al. 2015).

    user_vectors [b, d], positives int64 [b], positive_vectors [b, d], negatives int64 [n], negative_vectors [n, d].
    log_proposal: logarithm of the probability with which each item of the catalogue was proposed, [N]; its value is
    subtracted from every logit (logQ correction). Under uniform sampling the correction is a constant and cancels:
    pass None. A negative that is the positive of its row is masked.  weights: of each row [b], or None.
    """
    positive_logits = (user_vectors * positive_vectors).sum(-1, keepdim=True)
    negative_logits = user_vectors @ negative_vectors.T  # [b, n]
    if log_proposal is not None:
        positive_logits = positive_logits - log_proposal[positives].unsqueeze(1)
        negative_logits = negative_logits - log_proposal[negatives]
    negative_logits = negative_logits.masked_fill(negatives == positives.unsqueeze(1), -1e4)
    losses = -F.log_softmax(torch.cat([positive_logits, negative_logits], 1), 1)[:, 0]
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)
