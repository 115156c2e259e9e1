"""Losses as plain functions. Losses within the candidate lists of a ranker are in `models.ranking.losses`.

weights: of each row [b], not negative, or None for equal ones: the loss is the weighted mean over rows, 0 where all
weights are 0.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 256  # rows whose logits over the catalogue are made at a time: they stay in the processor's cache
MASKED = -1e4  # a logit that no other sees beside it


def full_softmax(
    user_vectors: Tensor, positives: Tensor, item_vectors: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy over the whole catalogue.

    user_vectors [b, d], positives int64 [b], item_vectors [N, d]. The logits are the memory it takes, b x N once.
    """
    rows = zip(torch.split(user_vectors, CHUNK), torch.split(positives, CHUNK), strict=True)
    losses = [F.cross_entropy(widened(users @ item_vectors.T), own, reduction="none") for users, own in rows]
    return _mean(torch.cat(losses), weights)


def sampled_softmax(
    user_vectors: Tensor,
    positives: Tensor,
    positive_vectors: Tensor,
    negatives: Tensor,
    negative_vectors: Tensor,
    log_proposal: Tensor | None = None,
    weights: Tensor | None = None,
    mask: bool = True,
) -> Tensor:
    """Softmax cross-entropy over the positive and shared sampled negatives (Jean et al. 2015).

    user_vectors [b, d], positives int64 [b], positive_vectors [b, d], negatives int64 [n], negative_vectors [n, d].
    log_proposal: logarithm of the probability with which each item of the catalogue was proposed, [N]; its value is
    subtracted from every logit, the positive's too (logQ correction). Under uniform sampling the correction is a
    constant and cancels: pass None.

    mask: leave out a negative that is the positive of its row. That is right for negatives that are distinct items.
    With independent draws (`Proposal.draw`) the expected loss has its minimum at the softmax over the catalogue, for
    any number of draws, if none is masked: among the n + 1 items, each place was the positive's with a probability in
    proportion to p(i) / q(i), and an accidental positive is one of them. Masking it makes large p(i) come out too
    large, unless n q(i) p(i) is small.
    """
    positive_logits = (user_vectors * positive_vectors).sum(-1)
    negative_logits = widened(user_vectors @ negative_vectors.T)  # [b, n]
    if log_proposal is not None:
        positive_logits = positive_logits - log_proposal[positives]
        negative_logits = negative_logits - log_proposal[negatives]
    if mask:
        negative_logits = negative_logits.masked_fill(negatives == positives.unsqueeze(1), MASKED)
    return _mean(F.softplus(negative_logits.logsumexp(1) - positive_logits), weights)


def in_batch_softmax(
    user_vectors: Tensor,
    item_vectors: Tensor,
    log_share: Tensor | None = None,
    known: Tensor | None = None,
    weights: Tensor | None = None,
    temperature: float = 1.0,
    first: int = 0,
) -> Tensor:
    """Softmax cross-entropy of each row's own item against the items of the batch (Yi et al. 2019).

    user_vectors [b, d], item_vectors [c, d]; row r's own item is item_vectors[first + r].  log_share [c]: logarithm of
    the probability with which each column's item comes into a batch; subtracted from the
    column's logits, after these were divided by the temperature, since popular items come in more often than a
    catalogue has them.  known bool [b, c]: the column's item is a positive of the row's user, `accidental_positives`,
    and no negative of theirs; a row's own item is not looked at. As in `sampled_softmax`, the softmax over the
    catalogue is estimated exactly with None; with the mask it is the one over the row's own item and what the user has
    not.
    """
    logits = widened(user_vectors @ item_vectors.T) / temperature
    if log_share is not None:
        logits = logits - log_share
    if known is not None:
        own = torch.ones_like(known).tril(first).triu(first)
        logits = logits.masked_fill(known & ~own, MASKED)
    return _mean(-F.log_softmax(logits, 1).diagonal(first), weights)


def bce(positive_logits: Tensor, negative_logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of a positive and its n sampled negatives (Kang and McAuley 2018 with n = 1), their mean.

    positive_logits [b], negative_logits [b, n]; of negatives shared by all rows, mask accidental positives with
    MASKED first. The logits come out as log p(i) / (n q(i)): fewer and popular negatives make them too sure.
    """
    return _binary(F.softplus(-positive_logits), negative_logits, weights)


def gbce(
    positive_logits: Tensor,
    negative_logits: Tensor,
    num_items: int,
    calibration: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Generalised binary cross-entropy (gSASRec, Petrov and Macdonald 2023): bce with sigmoid(positive) to a power.

    The power is a (t (1 - 1/a) + 1/a), a = n / (N - 1) being the share of negatives that is sampled and t the
    calibration: at 0 the power is 1, plain bce; at 1 it is a, and the probabilities are as if all were sampled. A power
    of the sigmoid is a multiple of its logarithm.
    positive_logits [b], negative_logits [b, n].  num_items: N.
    """
    share = min(1.0, negative_logits.shape[1] / max(1, num_items - 1))
    power = share * (calibration * (1 - 1 / share) + 1 / share)
    return _binary(power * F.softplus(-positive_logits), negative_logits, weights)


def bpr(positive_logits: Tensor, negative_logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking (Rendle et al. 2009): -log sigmoid(positive - negative), mean over a row's n.

    positive_logits [b], negative_logits [b, n].
    """
    return _mean(F.softplus(negative_logits - positive_logits.unsqueeze(1)).mean(1), weights)


def widened(logits: Tensor) -> Tensor:
    """Products that came in bfloat16, as float32: a sum of exponentials needs more than its three digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _binary(positive_losses: Tensor, negative_logits: Tensor, weights: Tensor | None) -> Tensor:
    total = positive_losses + F.softplus(negative_logits).sum(1)
    return _mean(total / (1 + negative_logits.shape[1]), weights)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)
