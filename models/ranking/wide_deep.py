"""Wide & Deep (Cheng et al. 2016): a linear model with declared crosses of features, and a perceptron, added.

A cross has a weight for every combination of two categorical features' values. Within a side it is the side's own. Of
a cross of both sides one side's row holds its code, and the other's row the weights of its value with every code of
the first: the head picks one of them. The weights stand in the row of the side whose partner has fewer values.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ranking.deep import deep
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors, linear
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Ranker, Share, Term, TermHead, assemble

MAX_WEIGHTS = 20_000_000  # of one cross
MAX_CODES = 2_000  # of the smaller feature of a cross of both sides: that many numbers in each row


class Feature(NamedTuple):
    """A categorical feature by where it stands."""

    is_user: bool
    position: int
    size: int


Cross = tuple[Feature, Feature]


class CrossesHalf(Half):
    """Own: the weights of the crosses within the side.  Block: a code or weights for each cross of both sides."""

    def __init__(self, crosses: list[Cross], *, is_user: bool) -> None:
        super().__init__()
        self.within = [pair for pair in crosses if pair[0].is_user == pair[1].is_user == is_user]
        # of the crosses of both sides: this side's feature, the codes that it has weights for (0: it gives its code)
        self.across = [_half(pair, is_user) for pair in crosses if pair[0].is_user != pair[1].is_user]
        self.own_tables = nn.ParameterList(torch.zeros(first.size * second.size, 1) for first, second in self.within)
        self.tables = nn.ParameterList(torch.zeros(own.size if codes else 0, codes) for own, codes in self.across)
        self.width = sum(codes or 1 for _, codes in self.across)

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        own, block = None, []
        for (first, second), table in zip(self.within, self.own_tables, strict=True):
            code = categorical[:, first.position] * second.size + categorical[:, second.position]
            weight = F.embedding(code, table)
            own = weight if own is None else own + weight
        for (feature, codes), table in zip(self.across, self.tables, strict=True):
            code = categorical[:, feature.position]
            block.append(F.embedding(code, table) if codes else code.unsqueeze(1).to(numeric.dtype))
        return Share(own=own, block=torch.cat(block, 1) if block else None)


class CrossesHead(TermHead):
    """Picks the weight of each cross of both sides."""

    def __init__(self, user: CrossesHalf, item: CrossesHalf) -> None:
        super().__init__()
        self.user_codes = [codes for _, codes in user.across]
        self.user_widths = [codes or 1 for codes in self.user_codes]
        self.item_widths = [codes or 1 for _, codes in item.across]

    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        score = cross.new_zeros(cross.shape[0])
        parts = zip(torch.split(user, self.user_widths, 1), torch.split(item, self.item_widths, 1), strict=True)
        for (users, items), codes in zip(parts, self.user_codes, strict=True):
            if codes:  # weights in the user's row: one number of it is read, not the whole row a candidate
                place = row_user * codes + items[:, 0].to(torch.int64)
                score = score + users.flatten().index_select(0, place)
            else:
                place = users.index_select(0, row_user).to(torch.int64)
                score = score + items.gather(1, place)[:, 0]
        return score.unsqueeze(1)


def wide_deep(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    """Raises ValueError for a cross of features that are not there, or with too many combinations."""
    crosses = [_cross(inputs, *names) for names in options.crosses]
    user, item = CrossesHalf(crosses, is_user=True), CrossesHalf(crosses, is_user=False)
    wide = Term(user, item, CrossesHead(user, item) if user.across else None)
    return assemble(inputs, *field_vectors(inputs, options.dim), [linear(inputs), wide, deep(inputs, options)])


def _half(pair: Cross, is_user: bool) -> tuple[Feature, int]:
    """This side's feature of a cross of both sides, and the number of weights that its rows hold, 0 for its code."""
    own, other = pair if pair[0].is_user == is_user else pair[::-1]
    holds_weights = other.size < own.size or (other.size == own.size and is_user)
    return own, other.size if holds_weights else 0


def _cross(inputs: RankerInputs, first: str, second: str) -> Cross:
    pair = _find(inputs, first), _find(inputs, second)
    told = f"[train.ranker] crosses: {first!r} with {second!r}"
    if first == second:
        raise ValueError(f"{told}: name two features")
    if pair[0].size * pair[1].size > MAX_WEIGHTS:
        combinations = f"{pair[0].size:,} x {pair[1].size:,}"
        raise ValueError(
            f"{told}: {combinations} combinations, at most {MAX_WEIGHTS:,}; name features with fewer values"
        )
    if pair[0].is_user != pair[1].is_user and (smaller := min(pair[0].size, pair[1].size)) > MAX_CODES:
        raise ValueError(
            f"{told}: one is the user's and one the item's, and the smaller has {smaller:,} values, at most "
            f"{MAX_CODES:,}; name features with fewer values"
        )
    return pair


def _find(inputs: RankerInputs, name: str) -> Feature:
    if name in inputs.item_multi:
        raise ValueError(f"[train.ranker] crosses: {name!r} has several values an item; a cross is of two single ones")
    groups = ((True, inputs.user_sizes), (False, inputs.item_sizes))
    found = [Feature(side, list(sizes).index(name), sizes[name]) for side, sizes in groups if name in sizes]
    if not found:
        known = ", ".join([*inputs.user_sizes, *inputs.item_sizes]) or "none"
        raise ValueError(f"[train.ranker] crosses: no categorical feature {name!r}; there are: {known}")
    if len(found) > 1:
        raise ValueError(f"[train.ranker] crosses: {name!r} is a feature of users and of items; rename one of them")
    return found[0]
