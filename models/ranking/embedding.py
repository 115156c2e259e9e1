"""The feature embedding that every ranking model shares: one vector a field."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FieldEmbedding(nn.Module):
    """Fields of one group (user or item) as vectors of one size.

    A categorical field looks its vector up, in one table for all fields; a numeric field has one vector, times its
    value (Guo et al. 2017, 3.1).  std: of the vectors before training.
    """

    offsets: Tensor

    def __init__(self, sizes: Iterable[int], num_numeric: int, dim: int, std: float = 0.01) -> None:
        super().__init__()
        sizes = list(sizes)
        self.table = nn.Parameter(torch.randn(sum(sizes), dim) * std)
        self.numeric = nn.Parameter(torch.randn(num_numeric, dim) * std)
        starts = [sum(sizes[:position]) for position in range(len(sizes))]
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.num_categorical, self.num_numeric, self.dim = len(sizes), num_numeric, dim

    def forward(self, categorical: Tensor, numeric: Tensor) -> Tensor:
        """categorical int64 [n, Fc], numeric float32 [n, Fn] -> fields [n, Fc + Fn, k]."""
        if not self.num_categorical:
            return numeric.unsqueeze(-1) * self.numeric
        looked_up = F.embedding(categorical + self.offsets, self.table)
        if not self.num_numeric:
            return looked_up
        return torch.cat([looked_up, numeric.unsqueeze(-1) * self.numeric], 1)


def row_sums(values: Tensor) -> Tensor:
    """Sums over the last axis, [..., n] -> [...].

    As a product with ones: onnxruntime's own sum over rows that do not fill its vectors adds in another order when a
    request shares a batch, and the last bits of a score then depend on the others.
    """
    width = values.shape[-1]
    if not width:  # onnxruntime's product of that width is whatever the memory held, its sum loses a dimension
        return values.new_zeros(values.shape[:-1])
    return values @ values.new_ones(width)


def flat(fields: Tensor) -> Tensor:
    """fields [n, F, k] -> [n, F * k]; a graph's reshape cannot infer n where there are no fields."""
    count = fields.shape[1] * fields.shape[2]
    return fields.flatten(1) if count else fields.new_zeros(fields.shape[0], 0)


def half_squares(model: nn.Module) -> Tensor:
    """Half the sum of the squares of all field vectors and field weights: what `embedding_l2` is multiplied with."""
    parts = [module for module in model.modules() if isinstance(module, FieldEmbedding)]
    squares = [parameter.square().sum() for part in parts for parameter in (part.table, part.numeric)]
    return 0.5 * torch.stack(squares).sum()
