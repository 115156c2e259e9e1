"""SASRec (Kang and McAuley 2018) for histories whose interactions come in sets of equal time.

A causal Transformer reads the history; a query placed after the newest set becomes the user vector. No position
attends to its own set, since a basket's order says nothing. Where every set has one item this is SASRec: the query
then starts from the newest item and attends to all before it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.item_features import ItemEmbedding, ItemFeatures
from models.layers import FeedForward, attention, join_heads, split_heads
from models.retrieval.model import RetrievalModel

MAX_DISTANCE = 64  # set distances beyond share one bias
BIAS_STEP = 4.0  # the bias is learned in units of this: Adam's steps are small beside the width of a useful bias
RESTING, FORBIDDEN = MAX_DISTANCE + 1, MAX_DISTANCE + 2  # kinds of keys beside those at a distance


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
        batch, heads = queries.shape[0], self.heads
        q = split_heads(self.query(queries), heads)  # [B, h, q, d/h]
        k = torch.cat([self.rest_key.expand(batch, -1, -1, -1), split_heads(self.key(content), heads)], 2)
        v = torch.cat([self.rest_value.expand(batch, -1, -1, -1), split_heads(self.value(content), heads)], 2)
        out: Tensor = self.out(join_heads(attention(q, k, v, self._bias(kinds))))
        return out

    def _bias(self, kinds: Tensor) -> Tensor:
        """[B, h, q, 1 + L]: one look-up for distance and mask together, as this is the widest array of the model."""
        of_kind = F.pad(F.pad(BIAS_STEP * self.distance_bias.T, (0, 1)), (0, 1), value=-1e4)  # [h, kinds]
        bias = of_kind.index_select(1, kinds.reshape(-1))
        return bias.reshape(self.heads, *kinds.shape).transpose(0, 1)


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

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        """history int64 [B, L], item_index + 1 with 0 as padding; set_ordinal int64 [B, L] -> user vectors [B, d]."""
        now = torch.zeros_like(set_ordinal[:, :1])
        vectors: Tensor = self.user_vectors(history, set_ordinal, now)[:, 0]
        return vectors

    def user_vectors(self, history: Tensor, set_ordinal: Tensor, moments: Tensor) -> Tensor:
        """User vectors [B, q, d] at several moments of each history: moment m int64 [B, q] sees the sets whose
        ordinal is greater than m (0 sees all)."""
        content = self._content(history)
        real = history > 0
        if len(self.blocks) > 1:  # the widest array of all; a single layer has no use for it
            own = torch.eye(history.shape[1], dtype=torch.bool, device=history.device)
            kinds = _kinds(set_ordinal, set_ordinal, real)
            kinds = kinds.masked_fill(F.pad(own, (1, 0)), 0)
            for block in self.blocks[:-1]:
                content = block(content, content, kinds)
        kinds = _kinds(moments, set_ordinal, real)
        newest, allowed = kinds[..., 1:] == 1, kinds[..., 1:] <= MAX_DISTANCE  # [B, q, L]; the set before the moment
        queries = self.start + self.newest_weight * _mean_of(newest, content) + _mean_of(allowed, content)
        vectors: Tensor = self.norm(self.blocks[-1](queries, content, kinds))
        return torch.cat([vectors[..., :-1], torch.ones_like(vectors[..., :1])], -1)

    def item_vectors(self) -> Tensor:
        """Vectors of the whole catalogue [N, d]; a score is an inner product with a user vector."""
        return self.items.all_items()

    def _content(self, history: Tensor) -> Tensor:
        vectors = self.content_norm(self.items((history - 1).clamp(min=0)))
        content: Tensor = self.dropout(vectors * (history > 0).unsqueeze(-1))
        return content


def _mean_of(chosen: Tensor, content: Tensor) -> Tensor:
    """Mean of the chosen positions' content, [B, q, d]; zero where none is.  chosen bool [B, q, L]."""
    share = chosen / chosen.sum(-1, keepdim=True).clamp(min=1)
    mean: Tensor = share.to(content.dtype) @ content
    return mean


def _kinds(from_ordinal: Tensor, to_ordinal: Tensor, real: Tensor) -> Tensor:
    """What each key is to each query, int64 [B, q, 1 + L]: the resting key, then the history: the distance in sets,
    clipped, where a key is of a strictly earlier set, else forbidden."""
    gap = to_ordinal.unsqueeze(1) - from_ordinal.unsqueeze(2)
    earlier = (gap > 0) & real.unsqueeze(1)
    return F.pad(gap.clamp(max=MAX_DISTANCE).masked_fill(~earlier, FORBIDDEN), (1, 0), value=RESTING)
