"""A two-tower model (Covington et al. 2016; Yi et al. 2019): one network for the user, one for the item, and the cosine
of what they make.

The user is the history, pooled by attention over the item embeddings that the item tower starts from, and the static
features and the context of the moment. Numbers that change with the moment (how much, how long ago) are the ranker's:
the same code would have to make them for every training pair, and what they say of the user the history says too.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.item_features import ItemEmbedding, ItemFeatures
from models.layers import attention
from models.retrieval.model import RetrievalModel

MAX_SETS = 64  # sets further back share one weight
POOLS = 2  # weighted means of the history
USER_FIELD = 16  # length of the vector of one categorical user feature
ID_STD = 1e-3  # an item that nobody has taken keeps what it starts with: as good as no id


class TwoTowerConfig(NamedTuple):
    dim: int = 64
    hidden: tuple[int, ...] = (128,)
    history_length: int = 100
    dropout: float = 0.1
    id_dropout: float = 0.1
    temperature: float = 0.1


class UserInputs(NamedTuple):
    """sizes: vocabulary size of each categorical feature that is read, by its column of user_categorical.  skipped:
    leading columns of user_numeric that are left out, those that depend on the moment.  numeric: columns after them."""

    sizes: dict[int, int]
    skipped: int
    numeric: int


class Tower(nn.Module):
    """residual + MLP(inputs), of length 1.

    So the towers start as the item's own embedding and the history's mean, whose cosine already says something.
    """

    def __init__(self, num_inputs: int, config: TwoTowerConfig) -> None:
        super().__init__()
        sizes = [num_inputs, *config.hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, config.hidden, strict=False))
        self.out = nn.Linear(sizes[-1], config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, residual: Tensor, inputs: Tensor) -> Tensor:
        """residual [..., d], inputs [..., n] -> [..., d]."""
        for layer in self.hidden:
            inputs = self.dropout(F.relu(layer(inputs)))
        return F.normalize(residual + self.out(inputs), dim=-1)


class HistoryPooling(nn.Module):
    """Attention of POOLS learned queries over the history, with a learned weight by the number of sets ago.

    One more key holds nothing: it keeps the softmax defined for an empty history, whose means are zero.
    """

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(POOLS, config.dim))  # a plain mean to start from
        self.recency = nn.Parameter(torch.zeros(MAX_SETS + 1, POOLS))

    def forward(self, content: Tensor, set_ordinal: Tensor) -> Tensor:
        """content [B, L, d], set_ordinal int64 [B, L] with 0 as padding -> [B, POOLS, d]."""
        real = set_ordinal > 0
        content = F.pad(content * real.unsqueeze(-1), (0, 0, 1, 0))  # [B, 1 + L, d]
        bias = self.recency[set_ordinal.clamp(0, MAX_SETS)].masked_fill(~real.unsqueeze(-1), -1e4)  # [B, L, p]
        bias = F.pad(bias.transpose(1, 2), (1, 0))
        queries = self.queries.expand(content.shape[0], -1, -1)
        return attention(queries, content, content, bias)


class TwoTower(RetrievalModel):
    user_features = True

    def __init__(self, items: ItemFeatures, users: UserInputs, config: TwoTowerConfig) -> None:
        super().__init__()
        self.history_length, self.temperature = config.history_length, config.temperature
        self.skipped = users.skipped
        self.embedding = ItemEmbedding(len(items.codes), items, config.dim, config.id_dropout, ID_STD)
        self.pooling = HistoryPooling(config)
        self.columns = list(users.sizes)
        fields = [nn.Embedding(size, USER_FIELD) for size in users.sizes.values()]
        for table in fields:
            nn.init.normal_(table.weight, std=0.05)
        self.fields = nn.ModuleList(fields)
        user_width = POOLS * config.dim + USER_FIELD * len(fields) + users.numeric
        self.user_tower, self.item_tower = Tower(user_width, config), Tower(config.dim, config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        """See RetrievalModel: with user_categorical int64 [B, Fu] and user_numeric float32 [B, Gu] -> [B, d].

        The vectors have length 1 / temperature, so that their product with an item vector is the logit.
        """
        categorical, numeric = user_features
        content = self.dropout(self.embedding((history - 1).clamp(min=0)))
        pooled = self.pooling(content, set_ordinal)
        fields = [table(categorical[:, column]) for column, table in zip(self.columns, self.fields, strict=True)]
        known = torch.cat([pooled.flatten(1), *fields, numeric[:, self.skipped :]], 1)
        vectors: Tensor = self.user_tower(pooled.mean(1), known)
        return vectors / self.temperature

    def items(self, items: Tensor) -> Tensor:
        """items int64 [...] -> vectors [..., d] of length 1."""
        embedded = self.embedding(items)
        vectors: Tensor = self.item_tower(embedded, embedded)
        return vectors

    def item_vectors(self) -> Tensor:
        ids = self.embedding.ids.weight
        return self.items(torch.arange(len(ids), device=ids.device))
