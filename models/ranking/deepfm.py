"""DeepFM (Guo et al. 2017) in three pieces, so that serving computes each part of a score as rarely as it can.

    score = linear + second-order + MLP over all fields, fields = user fields, item fields and cross features

Every product of a user field with an item field is linear in the item side once the user is fixed, and the MLP's
first layer is W_user u + W_item i + W_cross x + b. So the user piece runs once a request, the item part is a row a
catalogue item computed at export, and the head runs over the candidates. Exact, not an approximation.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ranking.embedding import FieldEmbedding, second_order


class RankerInputs(NamedTuple):
    """Sizes of the feature groups: vocabulary sizes of categorical features and counts of numeric ones."""

    user_sizes: list[int]
    user_numeric: int
    item_sizes: list[int]
    item_numeric: int
    cross: int


class DeepFmConfig(NamedTuple):
    dim: int = 16
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.1


class _Part(nn.Module):
    """One side of the model: [own score, sum of field vectors, share of the first layer], [n, 1 + k + h]."""

    def __init__(self, sizes: list[int], num_numeric: int, config: DeepFmConfig) -> None:
        super().__init__()
        self.fields = FieldEmbedding(sizes, num_numeric, config.dim)
        width = self.fields.num_fields * config.dim
        # as nn.Linear draws it; nn.Linear itself warns about a group without fields
        self.first = nn.Parameter((2.0 * torch.rand(config.hidden[0], width) - 1.0) / max(width, 1) ** 0.5)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, categorical: Tensor, numeric: Tensor) -> Tensor:
        """categorical int64 [n, Fc], numeric float32 [n, Fn]."""
        fields, linear = self.fields(categorical, numeric)
        own = linear + second_order(fields)
        return torch.cat([own.unsqueeze(1), fields.sum(1), F.linear(self.dropout(fields).flatten(1), self.first)], 1)


class Head(nn.Module):
    """user [B, u], item_part [n, h], cross [n, c], row_user int64 [n] -> score [n], a logit."""

    def __init__(self, num_cross: int, config: DeepFmConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.cross = FieldEmbedding([], num_cross, config.dim)
        self.first = nn.Linear(num_cross, config.hidden[0])
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(config.hidden, config.hidden[1:], strict=False))
        self.out = nn.Linear(config.hidden[-1], 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, user: Tensor, item_part: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        rows = user[row_user]  # [n, u]
        cross_sum, own = self.cross.numeric_sums(cross)
        user_sum, item_sum = rows[:, 1 : 1 + self.dim], item_part[:, 1 : 1 + self.dim]
        pairs = (user_sum * item_sum + (user_sum + item_sum) * cross_sum).sum(-1)
        hidden = F.relu(rows[:, 1 + self.dim :] + item_part[:, 1 + self.dim :] + self.first(cross))
        for layer in self.hidden:
            hidden = F.relu(layer(self.dropout(hidden)))
        deep = self.out(self.dropout(hidden))[:, 0]
        score: Tensor = rows[:, 0] + item_part[:, 0] + own + pairs + deep
        return score


class DeepFm(nn.Module):
    def __init__(self, inputs: RankerInputs, config: DeepFmConfig) -> None:
        super().__init__()
        self.user_module = _Part(inputs.user_sizes, inputs.user_numeric, config)
        self.item_module = _Part(inputs.item_sizes, inputs.item_numeric, config)
        self.head_module = Head(inputs.cross, config)

    def item_part(self, item_categorical: Tensor, item_numeric: Tensor) -> Tensor:
        """item_categorical int64 [n, Fc], item_numeric float32 [n, Fn] -> [n, h]."""
        part: Tensor = self.item_module(item_categorical, item_numeric)
        return part

    def forward(
        self,
        user_categorical: Tensor,
        user_numeric: Tensor,
        item_categorical: Tensor,
        item_numeric: Tensor,
        cross: Tensor,
        row_user: Tensor,
    ) -> Tensor:
        """user_* [B, ...], item_* and cross [n, ...], row_user int64 [n] -> score [n]."""
        user = self.user_module(user_categorical, user_numeric)
        score: Tensor = self.head_module(user, self.item_part(item_categorical, item_numeric), cross, row_user)
        return score
