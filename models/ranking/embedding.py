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
    return values @ values.new_ones(values.shape[-1])


def half_squares(model: nn.Module) -> Tensor:
    """Half the sum of the squares of all field vectors and field weights: what `embedding_l2` is multiplied with."""
    parts = [module for module in model.modules() if isinstance(module, FieldEmbedding)]
    squares = [parameter.square().sum() for part in parts for parameter in (part.table, part.numeric)]
    return 0.5 * torch.stack(squares).sum()
