"""The ranker's user graph as sums of rows of one table, where the model allows it.

Without products of two of a user's own features, a user's row is a sum of what each feature gives by itself: a row for
each value of a categorical one, a number times one row and its square times another for a numeric one. Computed for
all values at export, the embedding, the first layer and the squares of a factorisation machine are one gather.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ranking.pieces import Side

MAX_BYTES = 2**19  # of the table; of many user ids, for instance, the model's own embedding is far smaller
NUM_TRIED = 256  # users with random features, of whom the sums have to be right
ROUNDING = 1e-12  # of float64
TOLERANCE = 1e-6  # of a row's largest number


class SummedSide(nn.Module):
    """(categorical int64 [n, C], numeric float32 [n, Fn]) -> the rows of a user side, [n, width].

    table: float32 [sum of sizes, width], the values of one feature after the other.  slopes, curves: [Fn, width].
    """

    table: Tensor
    slopes: Tensor
    curves: Tensor
    offsets: Tensor

    def __init__(self, table: Tensor, sizes: Sequence[int], slopes: Tensor, curves: Tensor) -> None:
        super().__init__()
        offsets = torch.tensor(list(accumulate([0, *sizes[:-1]])), dtype=torch.int64)
        for name, values in (("table", table), ("slopes", slopes), ("curves", curves), ("offsets", offsets)):
            self.register_buffer(name, values)
        self.curved = bool(curves.any())

    def forward(self, categorical: Tensor, numeric: Tensor) -> Tensor:
        rows = F.embedding(categorical + self.offsets, self.table).sum(1)
        if self.slopes.shape[0]:
            rows = torch.addmm(rows, numeric, self.slopes)
        return torch.addmm(rows, numeric * numeric, self.curves) if self.curved else rows


def summed(side: Side, sizes: Sequence[int], num_numeric: int) -> SummedSide | None:
    """The same rows as this side's, but for rounding. None where they are no such sum, where there is no categorical
    feature, or where the table would be large.

    side: in evaluation mode; it is only asked for rows.  sizes: of the categorical features that it is given.
    """
    if side.history_length or not sizes or 4 * sum(sizes) * side.width > MAX_BYTES:
        return None
    exact = deepcopy(side).double()
    codes, ones = _each_value(sizes), torch.eye(num_numeric, dtype=torch.float64)
    nobody, nothing = torch.zeros(num_numeric, len(sizes), dtype=torch.int64), ones.new_zeros(len(codes), num_numeric)
    with torch.inference_mode():
        table = exact(codes, nothing)
        base = table[:1].clone()
        table[sizes[0] :] -= base  # what all rows have in common stands with the first feature
        up, down = exact(nobody, ones) - base, exact(nobody, -ones) - base
        curves = (up + down) / 2
        curves[curves.abs() <= ROUNDING] = 0.0  # a model without squares has none
        found = SummedSide(table.float(), sizes, ((up - down) / 2).float(), curves.float())
        return found if _same(found, exact, sizes, num_numeric) else None


def _each_value(sizes: Sequence[int]) -> Tensor:
    """Every value of every feature beside code 0 of the others, int64 [sum of sizes, C]."""
    columns = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    values = torch.cat([torch.arange(size) for size in sizes])
    return F.one_hot(columns, len(sizes)) * values.unsqueeze(1)


def _same(found: SummedSide, exact: Side, sizes: Sequence[int], num_numeric: int) -> bool:
    """For users with random values in all features at once: a product of two features would show here."""
    draw = torch.Generator().manual_seed(0)
    picked = torch.stack([torch.randint(size, (NUM_TRIED,), generator=draw) for size in sizes], 1)
    numbers = torch.randn(NUM_TRIED, num_numeric, generator=draw)
    expected = exact(picked, numbers.double())
    return bool((found(picked, numbers) - expected).abs().max() <= TOLERANCE * expected.abs().max())
