"""The three pieces of every ranking model, so that serving computes each part of a score as rarely as it can:

user_module   once a request: the user's features -> a row of numbers
item_part     once an export: each item's features -> a row of numbers
head_module   for each candidate: both rows and the cross features -> the score

A model is a sum of terms, and a term is split: a half for the user, one for the item, and what brings them together.
Every product of a user field with an item field is linear in the item side once the user is fixed, and so is a first
layer over concatenated fields, W_user u + W_item i + W_cross x + b. Exact, not an approximation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.contract.user_inputs import FEATURES, HISTORY
from models.ranking.inputs import RankerInputs

MAX_ROW = 4096  # numbers: of a user's row, and of each catalogue item's row in the bundle


class Share(NamedTuple):
    """What one side gives to one term.

    own: [n], added to the score as it is, whatever the other side.  block: [n, width], for the term's head.
    """

    own: Tensor | None = None
    block: Tensor | None = None


class Half(nn.Module):
    """One side of a term: (categorical [n, C], numeric [n, Fn], fields [n, F, k]) -> Share.  width: of its block."""

    width = 0


class Term(NamedTuple):
    """head: (user block [B, w], item block [n, v], cross [n, c], row_user [n]) -> [n]; None where both shares are
    the sides' own."""

    user: Half
    item: Half
    head: nn.Module | None = None


class Side(nn.Module):
    """One side of the model: [own score, blocks of the terms], [n, 1 + sum of widths].

    column: the one categorical feature that the model reads; None for all features.
    """

    history_length = 0  # positions of the history that `forward` takes besides; only a user's side may

    def __init__(self, embedding: nn.Module, halves: Sequence[Half], column: int | None = None) -> None:
        super().__init__()
        self.embedding, self.halves, self.column = embedding, nn.ModuleList(halves), column
        self.width = 1 + sum(half.width for half in halves)

    def forward(self, categorical: Tensor, numeric: Tensor) -> Tensor:
        """categorical int64 [n, C], numeric float32 [n, Fn]."""
        if self.column is not None:
            categorical, numeric = categorical[:, self.column : self.column + 1], numeric[:, :0]
        fields = self.embedding(categorical, numeric)
        own, blocks = numeric.new_zeros(numeric.shape[0]), []
        for half in self.halves:
            share: Share = half(categorical, numeric, fields)
            own = own if share.own is None else own + share.own
            blocks += [] if share.block is None else [share.block]
        return torch.cat([own.unsqueeze(1), *blocks], 1)


class Head(nn.Module):
    """user [B, u], item_part [n, h], cross [n, c], row_user int64 [n] -> score [n], a logit.

    A bias and a weight of each cross feature beside the terms: training starts from the order of retrieval there.
    """

    def __init__(self, num_cross: int, terms: Sequence[Term]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.cross_weight = nn.Parameter(torch.zeros(num_cross))
        joining = [term for term in terms if term.head is not None]
        self.terms = nn.ModuleList(term.head for term in joining if term.head is not None)
        self.user_widths = [1, *(term.user.width for term in joining)]
        self.item_widths = [1, *(term.item.width for term in joining)]

    def forward(self, user: Tensor, item_part: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        user_own, *user_blocks = torch.split(user, self.user_widths, 1)
        item_own, *item_blocks = torch.split(item_part, self.item_widths, 1)
        score: Tensor = user_own.index_select(0, row_user)[:, 0] + item_own[:, 0] + self.bias
        if self.cross_weight.shape[0]:
            score = score + cross @ self.cross_weight
        for term, user_block, item_block in zip(self.terms, user_blocks, item_blocks, strict=True):
            score = score + term(user_block, item_block, cross, row_user)
        return score


class Ranker(nn.Module):
    """Raises ValueError where a row would have more than MAX_ROW numbers."""

    def __init__(self, user_module: Side, item_module: Side, head_module: Head) -> None:
        super().__init__()
        self.user_module, self.item_module, self.head_module = user_module, item_module, head_module
        for side, width in (("user", user_module.width), ("item", item_module.width)):
            if width > MAX_ROW:
                raise ValueError(
                    f"[train.ranker] the model's row of each {side} would have {width:,} numbers, at most {MAX_ROW:,} "
                    "are served: lower dim or hidden, or use fewer features"
                )

    @property
    def user_inputs(self) -> tuple[str, ...]:
        """Names of what `user_module` takes, in its order."""
        return (*FEATURES, *HISTORY) if self.user_module.history_length else FEATURES

    def item_part(self, item_categorical: Tensor, item_numeric: Tensor) -> Tensor:
        """item_categorical int64 [n, C], see `item_codes`, item_numeric float32 [n, Fn] -> [n, h]."""
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
        *history: Tensor,
    ) -> Tensor:
        """user_* and history [B, ...], item_* and cross [n, ...], row_user int64 [n] -> score [n]."""
        user = self.user_module(user_categorical, user_numeric, *history)
        score: Tensor = self.head_module(user, self.item_part(item_categorical, item_numeric), cross, row_user)
        return score


def assemble(inputs: RankerInputs, user: nn.Module, item: nn.Module, terms: Sequence[Term]) -> Ranker:
    """user, item: the feature embeddings that the terms share."""
    return Ranker(
        Side(user, [term.user for term in terms]),
        Side(item, [term.item for term in terms]),
        Head(inputs.cross, terms),
    )
