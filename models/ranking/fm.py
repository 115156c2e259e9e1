"""Factorisation machine (Rendle 2010): linear terms, and the product of the vectors of every two fields.

Over all fields, pairs = half of (square of the sum - sum of the squares). Both sums are a user's, an item's and a cross
part: each side gives the sum of its vectors, and as its own score what its squares take away.
"""

import torch
from torch import Tensor, nn

from models.ranking.embedding import column_of_sums, flat
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors, linear
from models.ranking.options import RankerOptions
from models.ranking.pieces import Affine, Half, Ranker, Share, Term, TermHead, assemble


class PairsHalf(Half):
    """Own: less half the squares of its vectors.  Addend: the sum of its vectors [n, k]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.addends = dim

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        return Share(own=column_of_sums(flat(fields.square()), -0.5), addend=fields.sum(1))


class PairsHead(TermHead):
    """Half the square of the sum over all fields, less half the squares of the cross features' vectors; each of these
    has a vector, times its value. No [n, c, k] is built."""

    def __init__(self, num_cross: int, dim: int) -> None:
        super().__init__()
        self.cross = nn.Parameter(torch.randn(num_cross, dim) * 0.01)

    def affine(self) -> Affine:
        return Affine(self.cross, self.cross.new_zeros(self.cross.shape[1]))

    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        if not self.cross.shape[0]:
            return column_of_sums(total * total, 0.5)
        both = torch.cat([total, cross], 1)
        score: Tensor = (both * both) @ torch.cat(
            [self.cross.new_full((total.shape[1], 1), 0.5), -0.5 * self.cross.square().sum(1, keepdim=True)]
        )
        return score


def pairs(inputs: RankerInputs, dim: int) -> Term:
    """The second-order term of a factorisation machine."""
    return Term(PairsHalf(dim), PairsHalf(dim), PairsHead(inputs.cross, dim))


def fm(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return assemble(inputs, *field_vectors(inputs, options.dim), [linear(inputs), pairs(inputs, options.dim)])
