"""A Transformer ranker (BST, Chen et al. 2019): self-attention over what the user did with the candidate as the newest
member of that sequence; then a perceptron over what came of it and all other features.

    token = W [vectors of an item's categories] + a vector by how many sets ago; 0 sets for the candidate
    [history's tokens, candidate's token] -> Transformer layers -> mean of the history, candidate's own
    score = MLP [mean, candidate, user fields, item fields, cross]

Every token sees the candidate, so nothing of the attention can be computed without it: the user's row holds the
history's tokens, the item part the candidate's, and the head does the rest. The first layer over the other features
splits as in every model. The paper's sequence has the time between an action and now in place of an order; so has
this, in sets of equal times. It concatenates all positions' outputs; here the history's are pooled.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import FeedForward, attention, join_heads, split_heads
from models.ranking.deep import FirstLayerHalf, Mlp, Weights, first_of_head
from models.ranking.embedding import FieldEmbedding
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Affine, Head, Ranker, Share, Side, Term, TermHead

MAX_SETS = 64  # sets further back share one vector


class Token(nn.Module):
    """An item of the sequence, from the field vectors that all of the model shares."""

    def __init__(self, embedding: FieldEmbedding, options: RankerOptions) -> None:
        super().__init__()
        self.embedding = embedding
        self.project = nn.Linear(embedding.num_categorical * options.dim, options.dim)
        self.sets_ago = nn.Embedding(MAX_SETS + 1, options.dim)
        nn.init.normal_(self.sets_ago.weight, std=0.01)
        self.dropout = nn.Dropout(options.embedding_dropout)

    def forward(self, codes: Tensor, sets_ago: Tensor) -> Tensor:
        """codes int64 [..., C], sets_ago int64 [...] -> [..., k]."""
        fields = self.embedding.look_up(codes)
        token: Tensor = self.project(self.dropout(fields).flatten(-2)) + self.sets_ago(sets_ago)
        return token


class History(nn.Module):
    """The history's tokens and which of them are real, as one row.  width: of the row, L * (k + 1)."""

    codes: Tensor

    def __init__(self, token: Token, catalogue: Tensor, options: RankerOptions) -> None:
        super().__init__()
        self.token, self.length = token, options.history_length
        self.width = self.length * (options.dim + 1)
        self.register_buffer("codes", catalogue, persistent=False)

    def forward(self, history: Tensor, set_ordinal: Tensor) -> Tensor:
        """history, set_ordinal int64 [B, L], see `models.contract.history.tower_input` -> [B, L * (k + 1)]."""
        real = (history > 0).to(torch.float32)
        codes = self.codes[(history - 1).clamp(min=0)]  # [B, L, C]
        tokens = self.token(codes, set_ordinal.clamp(max=MAX_SETS)) * real.unsqueeze(-1)
        return torch.cat([tokens.flatten(1), real], 1)


class UserHalf(FirstLayerHalf):
    """Addend: the share of the first layer.  Block: the row of the history, which HistorySide appends."""

    def __init__(self, inputs: RankerInputs, fan_in: int, history: History, options: RankerOptions) -> None:
        super().__init__(inputs.user_fields, options.dim, fan_in, options)
        self.width = history.width


class HistorySide(Side):
    def __init__(self, embedding: FieldEmbedding, half: UserHalf, history: History) -> None:
        super().__init__(embedding, [half])
        self.history, self.history_length = history, history.length

    def forward(self, categorical: Tensor, numeric: Tensor, *history: Tensor) -> Tensor:
        """history: history and set_ordinal, int64 [n, L] each."""
        return torch.cat([super().forward(categorical, numeric), self.history(*history)], 1)


class ItemHalf(FirstLayerHalf):
    """Addend: the share of the first layer.  Block: the candidate's token."""

    def __init__(self, inputs: RankerInputs, fan_in: int, token: Token, options: RankerOptions) -> None:
        super().__init__(inputs.item_fields, options.dim, fan_in, options)
        self.width = options.dim
        self.token = token

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        first = super().forward(categorical, numeric, fields)
        return first._replace(block=self.token(categorical, torch.zeros_like(categorical[:, 0])))


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, options: RankerOptions) -> None:
        super().__init__()
        dim = options.dim
        self.heads = options.heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.projections, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = FeedForward(dim, 2 * dim, options.dropout)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [n, S, k], bias [n, 1, 1, S] -> [n, S, k]."""
        projected = self.projections(self.norm_attention(x)).chunk(3, -1)
        queries, keys, values = (split_heads(part, self.heads) for part in projected)
        x = x + self.dropout(self.out(join_heads(attention(queries, keys, values, bias))))
        out: Tensor = x + self.dropout(self.feed(self.norm_feed(x)))
        return out


class TransformerHead(TermHead):
    def __init__(self, inputs: RankerInputs, fan_in: int, options: RankerOptions) -> None:
        super().__init__()
        self.sizes = [options.history_length * options.dim, options.history_length]
        self.length = options.history_length
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(options.dim)
        self.first, self.bias = first_of_head(inputs.cross, fan_in, options)
        self.from_sequence = Weights(2 * options.dim, options.hidden[0], fan_in)
        self.mlp = Mlp(options)

    def affine(self) -> Affine:
        return Affine(self.first.weight.T, self.bias)

    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        tokens, real = torch.split(user.index_select(0, row_user), self.sizes, 1)
        x = torch.cat([tokens.reshape(-1, self.length, item.shape[1]), item.unsqueeze(1)], 1)  # [n, L + 1, k]
        bias = F.pad(1e4 * (real - 1.0), (0, 1)).unsqueeze(1).unsqueeze(1)  # no padding is attended to
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x)
        share = real / real.sum(1, keepdim=True).clamp(min=1.0)  # a sum of ones, exact in any order
        pooled = (share.unsqueeze(1) @ x[:, :-1])[:, 0]
        sequence = self.from_sequence(torch.cat([pooled, x[:, -1]], 1))
        score: Tensor = self.mlp(total + sequence)
        return score


def transformer(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    """Raises ValueError without histories, without a category of items, and where heads do not divide dim."""
    if inputs.catalogue is None:
        raise ValueError(
            '[train.ranker] model = "transformer" reads the history before each candidate list: it needs '
            'learn_from = "candidates", and does not learn from a labelled table'
        )
    if not inputs.item_sizes and not inputs.item_multi:
        raise ValueError(
            '[train.ranker] model = "transformer" knows items by their categories and there are none: '
            "declare a categorical feature, 'item_id' for instance, or choose another model"
        )
    if options.dim % options.heads:
        raise ValueError(f"[train.ranker] dim = {options.dim} is not a multiple of heads = {options.heads}")
    user, item = FieldEmbedding(inputs.user, options.dim), FieldEmbedding(inputs.item, options.dim)
    fan_in = (inputs.user_fields + inputs.item_fields + 2) * options.dim + inputs.cross
    token = Token(item, options)
    history = History(token, inputs.catalogue, options)
    user_half, item_half = UserHalf(inputs, fan_in, history, options), ItemHalf(inputs, fan_in, token, options)
    return Ranker(
        HistorySide(user, user_half, history),
        Side(item, [item_half]),
        Head(inputs.cross, [Term(user_half, item_half, TransformerHead(inputs, fan_in, options))]),
    )
