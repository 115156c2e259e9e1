"""The feature embedding that every ranking model shares: one vector a field."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import mean_of_values
from models.ranking.inputs import ITEM_ID, USER_ID, Fields


class FieldEmbedding(nn.Module):
    """Fields of one group (user or item) as vectors of one size.

    A categorical field looks its vector up, in one table for all fields; a multi-valued one takes the mean of its
    values' vectors, from the same table; a numeric field has one vector, times its value (Guo et al. 2017, 3.1).
    std: of the vectors before training.

    Code 0 of an id is whoever was not known: its vector is zero and stays so. What training says of it is nothing, or
    that items which nobody could take yet were not taken.
    """

    offsets: Tensor

    def __init__(self, fields: Fields, dim: int, std: float = 0.01) -> None:
        super().__init__()
        sizes = {**fields.sizes, **{name: field.size for name, field in fields.multi.items()}}
        starts = {name: sum(list(sizes.values())[:place]) for place, name in enumerate(sizes)}
        self.num_categorical, self.num_numeric, self.dim = len(sizes), fields.numeric, dim
        self.widths = [len(fields.sizes), *(field.length for field in fields.multi.values())]
        self.unknown_id = next((starts[name] for name in (USER_ID, ITEM_ID) if name in fields.sizes), None)
        table = torch.randn(sum(sizes.values()), dim) * std
        if self.unknown_id is not None:
            table[self.unknown_id] = 0.0
        self.table = nn.Parameter(table)
        self.numeric = nn.Parameter(torch.randn(fields.numeric, dim) * std)
        offsets = torch.tensor([starts[name] for name, _ in fields.columns], dtype=torch.int64)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, categorical: Tensor, numeric: Tensor) -> Tensor:
        """categorical int64 [n, C], numeric float32 [n, Fn] -> fields [n, Fc + Fn, k]."""
        if not self.num_categorical:
            return numeric.unsqueeze(-1) * self.numeric
        looked_up = self.look_up(categorical)
        if not self.num_numeric:
            return looked_up
        return torch.cat([looked_up, numeric.unsqueeze(-1) * self.numeric], 1)

    def look_up(self, codes: Tensor) -> Tensor:
        """The categorical and multi-valued fields: codes int64 [..., C], see `item_codes` -> [..., Fc, k]."""
        # as padding its row gets no gradient
        vectors = F.embedding(codes + self.offsets, self.table, padding_idx=self.unknown_id)
        if len(self.widths) == 1:
            return vectors
        (single, *several), (_, *values) = torch.split(vectors, self.widths, -2), torch.split(codes, self.widths, -1)
        means = [mean_of_values(code, vector) for code, vector in zip(values, several, strict=True)]
        return torch.cat([single, torch.stack(means, -2)], -2)


def row_sums(values: Tensor) -> Tensor:
    """Sums over the last axis, [..., n] -> [...]."""
    return column_of_sums(values).squeeze(-1)


def column_of_sums(values: Tensor, weight: float = 1.0) -> Tensor:
    """Sums over the last axis, times the weight, [..., n] -> [..., 1].

    As a product with ones: onnxruntime's own sum over rows that do not fill its vectors adds in another order when a
    request shares a batch, and the last bits of a score then depend on the others.
    """
    width = values.shape[-1]
    if not width:  # onnxruntime's product of that width is whatever the memory held, its sum loses a dimension
        return values.new_zeros((*values.shape[:-1], 1))
    return values @ values.new_full((width, 1), weight)


def flat(fields: Tensor) -> Tensor:
    """fields [n, F, k] -> [n, F * k]; a graph's reshape cannot infer n where there are no fields."""
    count = fields.shape[1] * fields.shape[2]
    return fields.flatten(1) if count else fields.new_zeros(fields.shape[0], 0)


def half_squares(model: nn.Module) -> Tensor:
    """Half the sum of the squares of all field vectors and field weights: what `embedding_l2` is multiplied with."""
    parts = [module for module in model.modules() if isinstance(module, FieldEmbedding)]
    squares = [parameter.square().sum() for part in parts for parameter in (part.table, part.numeric)]
    return 0.5 * torch.stack(squares).sum()
