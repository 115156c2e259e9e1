"""Item-to-item: an item brings the items that the same users took (Sarwar et al. 2001), cosine or BM25-weighted."""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import ItemToItemOptions
from models.retrieval.linear import LinearTower, fit_linear
from models.run_log import RunLog

BLOCK_CELLS = 2**23  # cells of the similarity matrix held at once


def fit(dataset: Dataset, options: ItemToItemOptions, run: Fit, log: RunLog) -> LinearTower:
    return fit_linear(dataset, options, run, log, lambda matrix: item_weights(matrix, options))


def item_weights(matrix: Tensor, options: ItemToItemOptions) -> Tensor:
    """Similarities, sparse float32 [N, N]: in a row the most similar items of one item, without itself.

    matrix: sparse [U, N] of ones.
    """
    if options.weighting == "bm25":
        return _most_similar(bm25(matrix, options.bm25_k1, options.bm25_b), options.neighbours)
    return _most_similar(matrix, options.neighbours, options.shrinkage)


def bm25(matrix: Tensor, k1: float, b: float) -> Tensor:
    """The matrix with the weights that the library `implicit` gives it, where a user is a document and an item a word:

    idf(i) (k1 + 1) / (k1 (1 - b + b n_u / mean n) + 1), idf(i) = log(U / (1 + users of i))
    """
    users, items = matrix.indices()
    lengths = torch.bincount(users, minlength=matrix.shape[0]).float()
    rarity = torch.log(matrix.shape[0] / (1.0 + torch.bincount(items, minlength=matrix.shape[1])))
    saturation = k1 * (1.0 - b + b * lengths / lengths.mean()) + 1.0
    values = rarity[items] * (k1 + 1.0) / saturation[users]
    return torch.sparse_coo_tensor(matrix.indices(), values, matrix.shape, is_coalesced=True, check_invariants=True)


def _most_similar(weights: Tensor, limit: int, cosine_shrinkage: float | None = None) -> Tensor:
    """W'W, only the `limit` largest positive entries of each row and no diagonal, sparse [N, N].

    cosine_shrinkage: for the matrix of ones W'W counts users in common; the cosine of the columns, times n / (n +
    shrinkage) for n users in common, takes their place.
    """
    num_items = weights.shape[1]
    norms = torch.bincount(weights.indices()[1], minlength=num_items).clamp(min=1).sqrt()
    rows, columns, values = [], [], []
    for first, similarity in _products(weights):
        items = torch.arange(first, first + len(similarity))
        if cosine_shrinkage is not None:
            trust = similarity / (similarity + max(cosine_shrinkage, 1e-9))
            similarity = trust * similarity / (norms[items].unsqueeze(1) * norms)
        similarity[torch.arange(len(items)), items] = 0.0
        best = similarity.topk(min(limit, num_items))
        kept = best.values > 0
        rows.append(items.unsqueeze(1).expand_as(kept)[kept])
        columns.append(best.indices[kept])
        values.append(best.values[kept])
    indices = torch.stack([torch.cat(rows), torch.cat(columns)])
    return torch.sparse_coo_tensor(indices, torch.cat(values), (num_items, num_items), check_invariants=True).coalesce()


def _products(weights: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of W'W, [b, N], with the number of the first; a few columns of W at a time are dense."""
    num_users, num_items = weights.shape
    transposed = weights.t().coalesce()  # by item, then user
    items, users = transposed.indices()
    block = max(1, BLOCK_CELLS // max(num_items, num_users))
    for first in range(0, num_items, block):
        last = min(first + block, num_items)
        begin, end = torch.searchsorted(items, torch.tensor([first, last])).tolist()
        columns = torch.zeros(num_users, last - first)
        columns[users[begin:end], items[begin:end] - first] = transposed.values()[begin:end]
        yield first, (transposed @ columns).T.contiguous()
