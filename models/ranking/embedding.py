"""The feature embedding that every ranking model shares: one vector and one weight a field."""

import torch
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """Fields of one group (user, item or cross) as vectors of one size.

    A categorical field looks its vector up; a numeric field has one vector, times its value (Guo et al. 2017, 3.1).
    """

    def __init__(self, sizes: list[int], num_numeric: int, dim: int) -> None:
        super().__init__()
        tables = [nn.Embedding(size, dim) for size in sizes]
        weights = [nn.Embedding(size, 1) for size in sizes]
        for table, weight in zip(tables, weights, strict=True):
            nn.init.normal_(table.weight, std=0.01)
            nn.init.zeros_(weight.weight)
        self.tables, self.weights = nn.ModuleList(tables), nn.ModuleList(weights)
        self.numeric = nn.Parameter(torch.randn(num_numeric, dim) * 0.01)
        self.numeric_weight = nn.Parameter(torch.zeros(num_numeric))
        self.num_fields = len(sizes) + num_numeric

    def forward(self, categorical: Tensor, numeric: Tensor) -> tuple[Tensor, Tensor]:
        """categorical int64 [n, Fc], numeric float32 [n, Fn] -> fields [n, Fc + Fn, k], linear term [n]."""
        fields = [table(categorical[:, position]) for position, table in enumerate(self.tables)]
        looked_up = torch.stack(fields, 1) if fields else numeric.new_zeros(numeric.shape[0], 0, self.numeric.shape[1])
        linear = numeric @ self.numeric_weight
        for position, weight in enumerate(self.weights):
            linear = linear + weight(categorical[:, position])[:, 0]
        return torch.cat([looked_up, numeric.unsqueeze(-1) * self.numeric], 1), linear

    def numeric_sums(self, numeric: Tensor) -> tuple[Tensor, Tensor]:
        """For a group of numeric fields only: the sum of the field vectors [n, k] and the group's own score [n], the
        linear term and the products of its pairs. No [n, F, k] is built.  numeric float32 [n, F]."""
        total = numeric @ self.numeric
        squares = numeric.square() @ self.numeric.square().sum(1)
        return total, numeric @ self.numeric_weight + 0.5 * (total.square().sum(-1) - squares)


def second_order(fields: Tensor) -> Tensor:
    """Sum of the products of all pairs of field vectors, [n]: half of (sum squared - sum of squares), Rendle 2010.

    fields [n, F, k].
    """
    return 0.5 * (fields.sum(1).square().sum(-1) - fields.square().sum((1, 2)))
