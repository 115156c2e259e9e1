"""FNN (Zhang, Du & Wang 2016): a perceptron over the weight and the vector of each field, started from a trained
factorisation machine.

The paper's constant input w_0 is the first layer's bias; ReLU stands for its tanh, as in its successors (Qu et al.
2016, 4.5). Cross features enter the first layer as the numbers they are.
"""

import torch
from torch import Tensor

from models.ranking.deep import DeepHead, FirstLayerHalf
from models.ranking.embedding import FieldEmbedding
from models.ranking.inputs import RankerInputs
from models.ranking.lr import LinearHalf, field_vectors, field_weights
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Ranker, Share, Side, Term, assemble


class WeightedFirstLayerHalf(Half):
    """Addend: the share of the first layer over [weight, vector] of each of the side's fields."""

    def __init__(self, weights: FieldEmbedding, num_fields: int, fan_in: int, options: RankerOptions) -> None:
        super().__init__()
        self.weights = weights
        self.layer = FirstLayerHalf(num_fields, 1 + options.dim, fan_in, options)
        self.addends = self.layer.addends

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        both = torch.cat([self.weights(categorical, numeric), fields], 2)
        share: Share = self.layer(categorical, numeric, both)
        return share


def fnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    fan_in = (inputs.user_fields + inputs.item_fields) * (1 + options.dim) + inputs.cross
    user, item = field_weights(inputs)
    term = Term(
        WeightedFirstLayerHalf(user, inputs.user_fields, fan_in, options),
        WeightedFirstLayerHalf(item, inputs.item_fields, fan_in, options),
        DeepHead(inputs.cross, fan_in, options),
    )
    return assemble(inputs, *field_vectors(inputs, options.dim), [term])


@torch.no_grad()
def start_from_fm(model: Ranker, machine: Ranker) -> None:
    """Give the FNN the factorisation machine's vectors and weights."""
    for own, other in ((model.user_module, machine.user_module), (model.item_module, machine.item_module)):
        own.embedding.load_state_dict(other.embedding.state_dict())
        _weights(own).load_state_dict(_weights(other).state_dict())
    model.head_module.cross_weight.copy_(machine.head_module.cross_weight)
    model.head_module.bias.copy_(machine.head_module.bias)


def _weights(side: Side) -> FieldEmbedding:
    (found,) = [half.weights for half in side.halves if isinstance(half, LinearHalf | WeightedFirstLayerHalf)]
    return found
