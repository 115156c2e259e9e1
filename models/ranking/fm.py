"""Factorisation machine (Rendle 2010): linear terms, and the product of the vectors of every two fields.

Over all fields, pairs = half of (square of the sum - sum of the squares). The sum is a user's, an item's and a cross
part, so each side keeps its own sum and the pairs within it, and the head adds the products of the three sums.
"""

import torch
from torch import Tensor, nn

from models.ranking.embedding import flat, row_sums
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors, linear
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Ranker, Share, Term, assemble


class PairsHalf(Half):
    """Own: the pairs within the side.  Block: the sum of its vectors [n, k]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = dim

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        return Share(second_order(fields), fields.sum(1))


class PairsHead(nn.Module):
    """The pairs between the sides, and those with and within the cross features; each of these has a vector, times
    its value. No [n, c, k] is built."""

    def __init__(self, num_cross: int, dim: int) -> None:
        super().__init__()
        self.cross = nn.Parameter(torch.randn(num_cross, dim) * 0.01)

    def forward(self, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        user = user.index_select(0, row_user)
        if not self.cross.shape[0]:
            return row_sums(user * item)
        total = cross @ self.cross  # [n, k]
        squares = cross.square() @ self.cross.square().sum(1)
        pairs = row_sums(user * item + (user + item) * total)
        score: Tensor = pairs + 0.5 * (row_sums(total.square()) - squares)
        return score


def second_order(fields: Tensor) -> Tensor:
    """Sum of the products of all pairs of field vectors, [n].  fields [n, F, k]."""
    return 0.5 * (row_sums(fields.sum(1).square()) - row_sums(flat(fields.square())))


def pairs(inputs: RankerInputs, dim: int) -> Term:
    """The second-order term of a factorisation machine."""
    return Term(PairsHalf(dim), PairsHalf(dim), PairsHead(inputs.cross, dim))


def fm(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return assemble(inputs, *field_vectors(inputs, options.dim), [linear(inputs), pairs(inputs, options.dim)])
