"""Logistic regression: a weight for each value of each feature, and one for each number."""

from torch import Tensor

from models.ranking.embedding import FieldEmbedding, column_of_sums, flat
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Ranker, Share, Term, assemble


class LinearHalf(Half):
    """The sum of the field weights."""

    def __init__(self, weights: FieldEmbedding) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        return Share(own=column_of_sums(flat(self.weights(categorical, numeric))))


def linear(inputs: RankerInputs) -> Term:
    """The linear term; the cross features' weights are the head's."""
    user, item = field_weights(inputs)
    return Term(LinearHalf(user), LinearHalf(item))


def field_weights(inputs: RankerInputs) -> tuple[FieldEmbedding, FieldEmbedding]:
    """A weight a field, of the user's and of the item's, 0 before training."""
    return FieldEmbedding(inputs.user, 1, std=0.0), FieldEmbedding(inputs.item, 1, std=0.0)


def field_vectors(inputs: RankerInputs, dim: int) -> tuple[FieldEmbedding, FieldEmbedding]:
    """The vectors of the user's fields and of the item's."""
    return FieldEmbedding(inputs.user, dim), FieldEmbedding(inputs.item, dim)


def lr(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return assemble(inputs, *field_vectors(inputs, 0), [linear(inputs)])
