"""Field-aware factorisation machine (Juan et al. 2016): a field has another vector for every field it meets.

score = linear + sum over pairs of fields a < b of <v_a for b, v_b for a>

Of a user's field the vectors for the item's fields go into the row, and of an item's field those for the user's:
U x I x k numbers on both sides. What meets the cross features ends in one number a cross feature.
"""

import torch
from torch import Tensor, nn

from models.ranking.embedding import column_of_sums, row_sums
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors, linear
from models.ranking.options import RankerOptions
from models.ranking.pieces import Affine, Half, Ranker, Share, Term, TermHead, assemble


class FieldAwareHalf(Half):
    """Own: the pairs within the side.  Addend: [n, c], the pairs with the cross features.  Block: [n, own x other x k],
    the vectors for the other side's fields.

    fields [n, own, F * k], the vectors for the user's fields, the item's, the cross features.
    """

    within: Tensor
    cross_vectors: nn.Parameter

    def __init__(self, inputs: RankerInputs, dim: int, *, is_user: bool) -> None:
        super().__init__()
        counts = [inputs.user_fields, inputs.item_fields, inputs.cross]
        self.counts, self.dim, self.is_user = counts, dim, is_user
        self.own, self.other = counts[:2] if is_user else counts[1::-1]
        self.addends, self.width = inputs.cross, self.own * self.other * dim
        self.register_buffer("within", torch.triu_indices(self.own, self.own, 1), persistent=False)
        # the cross features' vectors for this side's fields
        self.cross_vectors = nn.Parameter(torch.randn(self.own, inputs.cross, dim) * 0.01)

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        if not self.own:
            return Share(addend=numeric.new_zeros(numeric.shape[0], self.addends))
        vectors = fields.reshape(fields.shape[0], self.own, sum(self.counts), self.dim)  # [n, own, F, k]
        user, item, cross = torch.split(vectors, self.counts, 2)
        inside, across = (user, item) if self.is_user else (item, user.transpose(1, 2))
        return Share(
            own=self._pairs_within(inside) if self.own > 1 else None,
            addend=row_sums(cross * self.cross_vectors).sum(1) if self.counts[2] else None,
            block=across.flatten(1) if self.other else None,
        )

    def _pairs_within(self, inside: Tensor) -> Tensor:
        """inside [n, own, own, k] -> [n, 1]."""
        vectors = inside.flatten(1, 2)
        first, second = self.within[0] * self.own + self.within[1], self.within[1] * self.own + self.within[0]
        return column_of_sums((vectors.index_select(1, first) * vectors.index_select(1, second)).flatten(1))


class FieldAwareHead(TermHead):
    def __init__(self, num_cross: int, dim: int) -> None:
        super().__init__()
        self.num_cross = num_cross
        self.cross = nn.Parameter(torch.randn(num_cross, num_cross, dim) * 0.01)  # of one cross feature for another

    def affine(self) -> Affine:
        """What a cross feature is multiplied with has a share of every later cross feature."""
        between = (self.cross * self.cross.transpose(0, 1)).sum(-1).triu(1)  # [c, c]
        return Affine(between, self.cross.new_zeros(self.num_cross))

    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        products = column_of_sums(user.index_select(0, row_user) * item)
        return products + column_of_sums(cross * total) if self.num_cross else products


def ffm(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    dim = options.dim
    halves = FieldAwareHalf(inputs, dim, is_user=True), FieldAwareHalf(inputs, dim, is_user=False)
    head = FieldAwareHead(inputs.cross, dim) if halves[0].addends + halves[0].width else None
    terms = [linear(inputs), Term(*halves, head)]
    return assemble(inputs, *field_vectors(inputs, inputs.fields * dim), terms)
