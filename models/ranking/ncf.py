"""Neural collaborative filtering (He et al. 2017): the user's id and the item's id, and nothing else of them.

GMF     h . (p_user * q_item)
MLP     a perceptron over [p_user, q_item]
NeuMF   both, each with vectors of its own, added in the last layer

Among candidates the cross features keep their linear weights, as in every model here.
"""

import torch
from torch import Tensor, nn

from models.ranking.deep import DeepHead, FirstLayerHalf
from models.ranking.embedding import FieldEmbedding, column_of_sums
from models.ranking.inputs import ITEM_ID, USER_ID, Fields, RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Head, Ranker, Share, Side, Term, TermHead


class FactorHalf(Half):
    """Block: the id's vector [n, k], of the user's side times the weights h."""

    def __init__(self, dim: int, *, weighted: bool) -> None:
        super().__init__()
        self.width = dim
        self.weights = nn.Parameter((2.0 * torch.rand(dim) - 1.0) / dim**0.5) if weighted else None

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        vector = fields[:, 0, : self.width]
        return Share(block=vector if self.weights is None else vector * self.weights)


class FactorHead(TermHead):
    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        return column_of_sums(user.index_select(0, row_user) * item)


def gmf(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _ncf(inputs, options.dim, [_factors(options)])


def mlp(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _ncf(inputs, options.dim, [_perceptron(options, start=0)])


def neumf(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    """The first half of each id's vector is GMF's, the second the perceptron's."""
    return _ncf(inputs, 2 * options.dim, [_factors(options), _perceptron(options, start=options.dim)])


def _factors(options: RankerOptions) -> Term:
    return Term(FactorHalf(options.dim, weighted=True), FactorHalf(options.dim, weighted=False), FactorHead())


def _perceptron(options: RankerOptions, start: int) -> Term:
    fan_in = 2 * options.dim
    return Term(
        FirstLayerHalf(1, options.dim, fan_in, options, start),
        FirstLayerHalf(1, options.dim, fan_in, options, start),
        DeepHead(0, fan_in, options),
    )


def _ncf(inputs: RankerInputs, dim: int, terms: list[Term]) -> Ranker:
    """Raises ValueError for a schema without the ids as features."""
    for name, sizes, group in ((USER_ID, inputs.user_sizes, "user"), (ITEM_ID, inputs.item_sizes, "item")):
        if name not in sizes:
            raise ValueError(
                f"[train.ranker] this model needs {name!r} as a categorical feature of the {group}: set "
                f"id_feature = true in [{group}s], give a labelled table a column of this name, or choose another model"
            )
    return Ranker(
        Side(
            FieldEmbedding(Fields({USER_ID: inputs.user_sizes[USER_ID]}, 0, {}), dim),
            [term.user for term in terms],
            column=list(inputs.user_sizes).index(USER_ID),
        ),
        Side(
            FieldEmbedding(Fields({ITEM_ID: inputs.item_sizes[ITEM_ID]}, 0, {}), dim),
            [term.item for term in terms],
            column=list(inputs.item_sizes).index(ITEM_ID),
        ),
        Head(inputs.cross, terms),
    )
