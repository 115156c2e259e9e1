"""Field-aware factorisation machine (Juan et al. 2016): a field has another vector for every field it meets.

score = linear + sum over pairs of fields a < b of <v_a for b, v_b for a>

Of a user's field the vectors for the item's fields go into the row, and of an item's field those for the user's:
U x I x k numbers on both sides. What meets the cross features ends in one number a cross feature.
"""

import torch
from torch import Tensor, nn

from models.ranking.embedding import row_sums
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors, linear
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Ranker, Share, Term, assemble


class FieldAwareHalf(Half):
    """Own: the pairs within the side.  Block: [c of the pairs with cross features | own x other x k of those with the
    other side].

    fields [n, own, F * k], the vectors for the user's fields, the item's, the cross features.
    """

    within: Tensor
    cross_vectors: nn.Parameter

    def __init__(self, inputs: RankerInputs, dim: int, *, is_user: bool) -> None:
        super().__init__()
        counts = [inputs.user_fields, inputs.item_fields, inputs.cross]
        self.counts, self.dim, self.is_user = counts, dim, is_user
        self.own, self.other = counts[:2] if is_user else counts[1::-1]
        self.width = inputs.cross + self.own * self.other * dim
        self.register_buffer("within", torch.triu_indices(self.own, self.own, 1), persistent=False)
        # the cross features' vectors for this side's fields
        self.cross_vectors = nn.Parameter(torch.randn(self.own, inputs.cross, dim) * 0.01)

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        if not self.own:
            return Share(block=numeric.new_zeros(numeric.shape[0], self.width))
        vectors = fields.reshape(fields.shape[0], self.own, sum(self.counts), self.dim)  # [n, own, F, k]
        user, item, cross = torch.split(vectors, self.counts, 2)
        inside, across = (user, item) if self.is_user else (item, user.transpose(1, 2))
        blocks = [row_sums(cross * self.cross_vectors).sum(1)] if self.counts[2] else []  # [n, c]
        blocks += [across.flatten(1)] if self.other else []
        own = self._pairs_within(inside) if self.own > 1 else None
        return Share(own, torch.cat(blocks, 1) if blocks else None)

    def _pairs_within(self, inside: Tensor) -> Tensor:
        """inside [n, own, own, k] -> [n]."""
        vectors = inside.flatten(1, 2)
        first, second = self.within[0] * self.own + self.within[1], self.within[1] * self.own + self.within[0]
        return row_sums((vectors.index_select(1, first) * vectors.index_select(1, second)).flatten(1))


class FieldAwareHead(nn.Module):
    def __init__(self, num_cross: int, dim: int) -> None:
        super().__init__()
        self.num_cross = num_cross
        self.cross = nn.Parameter(torch.randn(num_cross, num_cross, dim) * 0.01)  # of one cross feature for another

    def forward(self, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        user = user.index_select(0, row_user)
        products = row_sums(user[:, self.num_cross :] * item[:, self.num_cross :])
        if not self.num_cross:
            return products
        with_cross = user[:, : self.num_cross] + item[:, : self.num_cross]
        between = (self.cross * self.cross.transpose(0, 1)).sum(-1).triu(1)  # [c, c]
        return products + row_sums(cross * (with_cross + cross @ between))


def ffm(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    dim = options.dim
    halves = FieldAwareHalf(inputs, dim, is_user=True), FieldAwareHalf(inputs, dim, is_user=False)
    head = FieldAwareHead(inputs.cross, dim) if halves[0].width else None
    terms = [linear(inputs), Term(*halves, head)]
    return assemble(inputs, *field_vectors(inputs, inputs.fields * dim), terms)
