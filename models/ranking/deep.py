"""A multi-layer perceptron over all fields, its first layer split into the shares of the groups.

First layer: W_user u + W_item i + W_cross x + b, with u and i the concatenated field vectors of a side and x the cross
features themselves.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ranking.embedding import flat
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Affine, Half, Share, Term, TermHead


class Weights(nn.Module):
    """One group's columns of a layer over concatenated groups; a group may be empty.

    fan_in: inputs of the whole layer, drawn as nn.Linear draws it.
    """

    def __init__(self, width: int, outputs: int, fan_in: int) -> None:
        super().__init__()
        self.weight = nn.Parameter((2.0 * torch.rand(outputs, width) - 1.0) / max(fan_in, 1) ** 0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [n, width] -> [n, outputs]."""
        if not self.weight.shape[1]:
            return inputs.new_zeros(inputs.shape[0], self.weight.shape[0])
        return F.linear(inputs, self.weight)


class FirstLayerHalf(Half):
    """Addend: the side's share of the first layer.  start: of the part of the field vectors that it reads."""

    def __init__(self, num_fields: int, dim: int, fan_in: int, options: RankerOptions, start: int = 0) -> None:
        super().__init__()
        self.addends, self.start = options.hidden[0], start
        self.first = Weights(num_fields * dim, self.addends, fan_in)
        self.dropout = nn.Dropout(options.embedding_dropout)

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        return Share(addend=self.first(flat(self.dropout(fields[:, :, self.start :]))))


class Mlp(nn.Module):
    """The layers from the first one's sum of shares on: [n, hidden[0]] -> [n, 1]. The score's bias is the head's."""

    def __init__(self, options: RankerOptions) -> None:
        super().__init__()
        sizes = options.hidden
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) if options.batch_norm else nn.Identity() for size in sizes)
        self.out = nn.Linear(sizes[-1], 1, bias=False)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, first: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.norms[0](first)))
        for number, layer in enumerate(self.layers, 1):
            hidden = self.dropout(F.relu(self.norms[number](layer(hidden))))
        score: Tensor = hidden @ self.out.weight.T  # as a MatMul onnxruntime adds the other terms in the same step
        return score


class DeepHead(TermHead):
    def __init__(self, num_cross: int, fan_in: int, options: RankerOptions) -> None:
        super().__init__()
        self.first, self.bias = first_of_head(num_cross, fan_in, options)
        self.mlp = Mlp(options)

    def affine(self) -> Affine:
        return Affine(self.first.weight.T, self.bias)

    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        score: Tensor = self.mlp(total)
        return score


def first_of_head(num_cross: int, fan_in: int, options: RankerOptions) -> tuple[Weights, nn.Parameter]:
    """The cross features' share of the first layer, and its bias."""
    bias = (2.0 * torch.rand(options.hidden[0]) - 1.0) / max(fan_in, 1) ** 0.5
    return Weights(num_cross, options.hidden[0], fan_in), nn.Parameter(bias)


def deep(inputs: RankerInputs, options: RankerOptions) -> Term:
    """The perceptron over the field vectors and cross features."""
    dim = options.dim
    fan_in = (inputs.user_fields + inputs.item_fields) * dim + inputs.cross
    return Term(
        FirstLayerHalf(inputs.user_fields, dim, fan_in, options),
        FirstLayerHalf(inputs.item_fields, dim, fan_in, options),
        DeepHead(inputs.cross, fan_in, options),
    )
