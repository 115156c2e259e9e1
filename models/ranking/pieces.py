"""The three pieces of every ranking model, so that serving computes each part of a score as rarely as it can:

user_module   once a request: the user's features -> a row of numbers
item_part     once an export: each item's features -> a row of numbers
head_module   for each candidate: both rows and the cross features -> the score

A model is a sum of terms, and a term is split: a half for the user, one for the item, and what brings them together.
Every product of a user field with an item field is linear in the item side once the user is fixed, and so is a first
layer over concatenated fields, W_user u + W_item i + W_cross x + b. Exact, not an approximation.

Most of what a term needs of the two sides and the cross features it needs as their sum: a first layer's inputs, the sum
of the vectors of a factorisation machine. These columns stand first in both rows, and the head makes them for all terms
at once: one gather, one addition, one product with the cross features (docs/decisions/26-ranker-head.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.contract.user_inputs import FEATURES, HISTORY
from models.ranking.inputs import RankerInputs

MAX_ROW = 4096  # numbers: of a user's row, and of each catalogue item's row in the bundle


class Share(NamedTuple):
    """What one side gives to one term.

    own: [n, 1], added to the score as it is, whatever the other side.  addend: [n, addends], of which the term's head
    reads the sum with the other side's.  block: [n, width], which the term's head reads by itself.
    """

    own: Tensor | None = None
    addend: Tensor | None = None
    block: Tensor | None = None


class Half(nn.Module):
    """One side of a term: (categorical [n, C], numeric [n, Fn], fields [n, F, k]) -> Share.

    addends: columns of its addend, as many as the other side's.  width: of its block.
    """

    addends = 0
    width = 0


class Affine(NamedTuple):
    """What is added to the addends of both sides: cross @ weights + bias.

    weights: [c, addends], or [0, addends] where the term reads no cross features.  bias: [addends].
    """

    weights: Tensor
    bias: Tensor


class TermHead(nn.Module):
    """What brings the sides together: (total [n, addends], user block [B, w], item block [n, v], cross [n, c],
    row_user [n]) -> [n, 1]."""

    def affine(self) -> Affine | None:
        """For a term that has addends."""
        return None


class Term(NamedTuple):
    """head: None where both shares are the sides' own."""

    user: Half
    item: Half
    head: TermHead | None = None


class Side(nn.Module):
    """One side of the model: [own score, addends of the terms, blocks of the terms].

    column: the one categorical feature that the model reads; None for all features.
    """

    history_length = 0  # positions of the history that `forward` takes besides; only a user's side may

    def __init__(self, embedding: nn.Module, halves: Sequence[Half], column: int | None = None) -> None:
        super().__init__()
        self.embedding, self.halves, self.column = embedding, nn.ModuleList(halves), column
        self.width = 1 + sum(half.addends + half.width for half in halves)

    def forward(self, categorical: Tensor, numeric: Tensor) -> Tensor:
        """categorical int64 [n, C], numeric float32 [n, Fn]."""
        if self.column is not None:
            categorical, numeric = categorical[:, self.column : self.column + 1], numeric[:, :0]
        fields = self.embedding(categorical, numeric)
        shares: list[Share] = [half(categorical, numeric, fields) for half in self.halves]
        owns = [share.own for share in shares if share.own is not None]
        own = sum(owns[1:], owns[0]) if owns else numeric.new_zeros(numeric.shape[0], 1)
        addends = [share.addend for share in shares if share.addend is not None]
        return torch.cat([own, *addends, *(share.block for share in shares if share.block is not None)], 1)


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
        self.addends = [1, *(term.user.addends for term in joining)]  # the own score is one of them
        self.user_widths = [sum(self.addends), *(term.user.width for term in joining)]
        self.item_widths = [sum(self.addends), *(term.item.width for term in joining)]

    def forward(self, user: Tensor, item_part: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        user_addends, *user_blocks = _split(user, self.user_widths)
        item_addends, *item_blocks = _split(item_part, self.item_widths)
        weights, bias = self._affine()
        total = F.embedding(row_user, user_addends + bias) + item_addends
        if self.cross_weight.shape[0]:
            total = torch.addmm(total, cross, weights)
        score, *totals = _split(total, self.addends)
        for term, *given in zip(self.terms, totals, user_blocks, item_blocks, strict=True):
            score = score + term(*given, cross, row_user)
        return score.squeeze(1)

    def _affine(self) -> Affine:
        """Of all terms together, the own score first."""
        parts = [term.affine() for term in self.terms if isinstance(term, TermHead)]
        known = [part for part in parts if part is not None]
        num_cross = self.cross_weight.shape[0]
        weights = [
            part.weights if len(part.weights) else part.weights.new_zeros(num_cross, part.weights.shape[1])
            for part in known
        ]
        return Affine(
            torch.cat([self.cross_weight.unsqueeze(1), *weights], 1), torch.cat([self.bias, *(p.bias for p in known)])
        )


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


def _split(rows: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    """Columns of these widths; an empty part or the only one is no node of the graph's."""
    if sum(1 for width in widths if width) == 1:
        return [rows if width else rows[:, :0] for width in widths]
    return torch.split(rows, list(widths), 1)
