"""EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data"): one ridge regression in closed form."""

import torch
from torch import Tensor

from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import EaseOptions
from models.retrieval.linear import LinearTower, fit_linear
from models.run_log import RunLog

MAX_ITEMS = 30_000  # 3.6 GB a matrix, and three of them at once
BLOCK = 512


def fit(dataset: Dataset, options: EaseOptions, run: Fit, log: RunLog) -> LinearTower:
    """Raises ValueError for a catalogue whose item-item matrix would not fit into memory."""
    if dataset.num_items > MAX_ITEMS:
        raise ValueError(
            f'train.retrieval: model = "ease" inverts a matrix of items x items and takes at most {MAX_ITEMS:,} items; '
            f"there are {dataset.num_items:,}: use item_to_item or ials"
        )
    return fit_linear(dataset, options, run, log, lambda matrix: item_weights(matrix, options.regularization))


def item_weights(matrix: Tensor, regularization: float) -> Tensor:
    """B [N, N] that minimises |X - X B|^2 + regularization |B|^2 with a diagonal of zeros.  matrix: X, sparse [U, N].

    B = I - P diag(1 / P_jj) with P = (X'X + regularization I)^-1 (equation 8 of the paper).
    """
    gram = _gram(matrix)
    gram.diagonal().add_(regularization)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    inverse /= -inverse.diagonal().clone()
    inverse.fill_diagonal_(0.0)
    return inverse


def _gram(matrix: Tensor) -> Tensor:
    """X'X, float32 [N, N], in blocks: of X, a few columns at a time are dense."""
    num_users, num_items = matrix.shape
    gram = torch.empty(num_items, num_items)
    users, items = matrix.indices()
    order = torch.argsort(items, stable=True)
    users, items = users[order], items[order]
    for first in range(0, num_items, BLOCK):
        last = min(first + BLOCK, num_items)
        begin, end = torch.searchsorted(items, torch.tensor([first, last])).tolist()
        columns = torch.zeros(num_users, last - first)
        columns[users[begin:end], items[begin:end] - first] = 1.0
        gram[:, first:last] = matrix.t() @ columns
    return gram
