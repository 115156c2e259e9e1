"""SASRec (Kang and McAuley 2018) for histories whose interactions come in sets of equal time.

A causal Transformer reads the history; a query placed after the newest set becomes the user vector. No position
attends to its own set, since a basket's order says nothing. Where every set has one item this is SASRec: the query
then starts from the newest item and attends to all before it.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.item_features import ItemEmbedding, ItemFeatures
from models.layers import FeedForward, attention
from models.retrieval.model import RetrievalModel

MAX_DISTANCE = 64  # set distances beyond share one bias
BIAS_STEP = 4.0  # the bias is learned in units of this: Adam's steps are small beside the width of a useful bias
NEVER = -1e4  # the bias of a key that a position may not attend to
ID_STD = 0.02


class SasRecConfig(NamedTuple):
    dim: int = 64
    layers: int = 2
    heads: int = 2
    history_length: int = 100
    dropout: float = 0.2
    id_dropout: float = 0.1
    feed_units: int | None = None


class ItemInputs(NamedTuple):
    """Of N items.  log_popularity: float32 [N]."""

    features: ItemFeatures
    log_popularity: Tensor


class ItemEncoder(ItemEmbedding):
    """The last dimension is a learned multiple of the item's log-popularity and meets a constant in the user vector: an
    untrained model ranks by popularity, and a new item is simply unpopular."""

    log_popularity: Tensor

    def __init__(self, inputs: ItemInputs, config: SasRecConfig) -> None:
        super().__init__(len(inputs.log_popularity), inputs.features, config.dim, config.id_dropout, ID_STD)
        self.popularity_weight = nn.Parameter(torch.ones(()))
        self.register_buffer("log_popularity", inputs.log_popularity.float(), persistent=False)

    def vectors(self, items: Tensor) -> Tensor:
        popularity = self.popularity_weight * self.log_popularity[items]
        return torch.cat([super().vectors(items)[..., :-1], popularity.unsqueeze(-1)], -1)


class Attention(nn.Module):
    """Multi-head attention whose keys carry a learned bias by set distance, and one learned key to rest on.

    The bias starts at -slope log(distance), the slope halving from head to head: the newest sets count most before
    anything is learned, as in ALiBi (Press et al. 2022) but by a power of the distance.
    The resting key keeps the softmax defined where a position has nothing before it: an empty history has a vector.
    """

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        slopes = 0.5 ** torch.arange(config.heads)
        distance = torch.arange(MAX_DISTANCE + 1).clamp(min=1)
        self.distance_bias = nn.Parameter(-distance.log().unsqueeze(1) * slopes / BIAS_STEP)
        self.rest_key = nn.Parameter(torch.randn(1, config.heads, 1, config.dim // config.heads) * 0.02)
        self.rest_value = nn.Parameter(torch.zeros(1, config.heads, 1, config.dim // config.heads))

    def forward(self, queries: Tensor, content: Tensor, kinds: Tensor) -> Tensor:
        """queries [B, q, d], content [B, L, d], kinds int64 [B, q, 1 + L] of keys, the resting key first."""
        q = self._by_head(self.query(queries))  # [h, B, q, d/h]
        weight = torch.cat([self.key.weight, self.value.weight])
        both = F.linear(content, weight, torch.cat([self.key.bias, self.value.bias]))  # one product for the two
        rest = torch.cat([part.reshape(self.heads, 1, 1, -1) for part in (self.rest_key, self.rest_value)])
        k, v = torch.cat([rest.expand(-1, len(content), -1, -1), self._by_head(both)], 2).chunk(2)
        attended = attention(q, k, v, self._bias(kinds))  # [h, B, q, d/h]
        out: Tensor = self.out(attended.permute(1, 2, 0, 3).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """[B, n, m d] -> [m h, B, n, d/h]. In five dimensions: onnxruntime is slow where a single one moves."""
        width = self.rest_key.shape[-1]
        apart = x.reshape(*x.shape[:2], x.shape[2] // (self.heads * width), self.heads, width)
        return apart.permute(2, 3, 0, 1, 4).flatten(0, 1)

    def _bias(self, kinds: Tensor) -> Tensor:
        """[h, B, q, 1 + L]: one look-up for distance and mask together, as this is the widest array of the model.

        Heads come first so that it is made as it is read. `gather` takes number by number where an index would copy
        slices of one number, which is six times as slow in onnxruntime."""
        length = kinds.shape[2] - 1
        distances = torch.arange(1, length + 1, device=kinds.device).clamp(max=MAX_DISTANCE)
        bias = BIAS_STEP * self.distance_bias.T  # [h, 1 + MAX_DISTANCE]
        later, rest = bias.new_full((self.heads, length + 1), NEVER), bias.new_zeros(self.heads, length + 1)
        of_kind = torch.cat([later, bias[:, distances], rest, bias[:, :1]], 1)  # as `_kinds` counts them
        return of_kind.gather(1, kinds.reshape(1, -1).expand(self.heads, -1)).reshape(self.heads, *kinds.shape)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.attention = Attention(config)
        self.feed = FeedForward(config.dim, config.feed_units or 2 * config.dim, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, queries: Tensor, content: Tensor, kinds: Tensor) -> Tensor:
        normed = self.norm_attention(content)
        asking = normed if queries is content else self.norm_attention(queries)
        x = queries + self.dropout(self.attention(asking, normed, kinds))
        out: Tensor = x + self.dropout(self.feed(self.norm_feed(x)))
        return out


class SasRec(RetrievalModel):
    """history and set ordinals -> user vector. See `models.contract.history.tower_input` for the input."""

    content_table: Tensor

    def __init__(self, items: ItemInputs, config: SasRecConfig) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history_length
        self.items = ItemEncoder(items, config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.start = nn.Parameter(torch.zeros(config.dim))  # what a query starts from when nothing came before
        self.newest_weight = nn.Parameter(torch.ones(()))
        self.content_norm, self.norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("content_table", torch.zeros(0, config.dim), persistent=False)
        self.register_load_state_dict_post_hook(lambda model, keys: model.refresh())  # type: ignore[no-untyped-call]

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        """history int64 [B, L], item_index + 1 with 0 as padding; set_ordinal int64 [B, L] -> user vectors [B, d]."""
        now = set_ordinal.new_zeros(1, 1)
        return self.user_vectors(history, set_ordinal, now).squeeze(1)

    def user_vectors(self, history: Tensor, set_ordinal: Tensor, moments: Tensor) -> Tensor:
        """User vectors [B, q, d] at several moments of each history: moment m int64 [B, q] sees the sets whose
        ordinal is greater than m (0 sees all); [1, q] where they are the same for all."""
        content = self._content(history)
        if len(self.blocks) > 1:  # the widest array of all; a single layer has no use for it
            kinds = _own(_kinds(set_ordinal, set_ordinal))
            for block in self.blocks[:-1]:
                content = block(content, content, kinds)
        gap = set_ordinal.unsqueeze(1) - moments.unsqueeze(2)  # [B, q, L]
        newest, allowed = (_shares(chosen, content.dtype) for chosen in (gap == 1, gap > 0))
        shares = self.newest_weight * newest + allowed
        queries = self.start + shares @ content
        out = self.blocks[-1](queries, content, _kinds(moments, set_ordinal))
        # The last dimension, which meets the item's popularity, is 1: nothing of the norm's but its bias.
        norm, others = self.norm, torch.arange(self.config.dim, device=out.device) < self.config.dim - 1
        weight, bias = norm.weight * others, torch.where(others, norm.bias, 1.0)
        return F.layer_norm(out, norm.normalized_shape, weight, bias, norm.eps)

    def item_vectors(self) -> Tensor:
        """Vectors of the whole catalogue [N, d]; a score is an inner product with a user vector."""
        return self.items.all_items()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.refresh()
        return self

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the content of each item anew, the first row for padding, unless it is being learned: out of training it
        is a look-up, as the items' vectors are (`ItemEmbedding`)."""
        if not self.training:
            self.content_table = F.pad(self.content_norm(self.items.all_items()), (0, 0, 1, 0))

    def _content(self, history: Tensor) -> Tensor:
        if not self.training:
            return F.embedding(history, self.content_table)
        vectors = self.content_norm(self.items((history - 1).clamp(min=0)))
        content: Tensor = self.dropout(vectors * (history > 0).unsqueeze(-1))
        return content


def _shares(chosen: Tensor, dtype: torch.dtype) -> Tensor:
    """What each chosen position counts for in their mean, [B, q, L]; all zeros where none is chosen."""
    ones = chosen.to(dtype)
    return ones / ones.sum(-1, keepdim=True).clamp(min=1)


def _kinds(from_ordinal: Tensor, to_ordinal: Tensor) -> Tensor:
    """What each key is to each query, int64 [B, q, 1 + L]: the resting key, then the history.

    A number for each difference of ordinals, which are at most L, so that there is nothing to clip and to mask: up to L
    a key of the same set, of a later one, or padding, whose ordinal is 0; then L distances; then the resting key, whose
    ordinal lies so far back that it is beyond every distance.
    """
    length = to_ordinal.shape[1]
    keys = F.pad(to_ordinal + length, (1, 0), value=3 * length + 1)
    return keys.unsqueeze(1) - from_ordinal.unsqueeze(2)


def _own(kinds: Tensor) -> Tensor:
    """The kinds of a history to itself, where each position is, beside the others, a kind of key of its own."""
    length = kinds.shape[1]
    own = torch.eye(length, dtype=kinds.dtype, device=kinds.device)
    return kinds + (2 * length + 2) * F.pad(own, (1, 0))
