"""A graph convolutional network with features and weights (Kipf and Welling 2017) on the graph of users and items.

    H = ReLU(Â X W0 + b0),  Z = Â H W1 + b1,  Â = I + D^-1/2 A D^-1/2

This Â is the paper's equation 7. Its renormalised form, where a node is one among its neighbours, leaves next to
nothing of an item that a hundred users have: two convolutions then bring a user the features of other users, but
not of the user's own items. With two layers there is nothing to renormalise for.

X are the features of users and items, and for items their ids too unless they are left out; a user has no id, so a new
one is a node like any other. Friends and similar items are further relations beside Â, each normalised by its own
degrees and added with one weight; as in LightGCN they are in what `known_user_vectors` and the items have, not in the
exported tower, which computes a user's row of both convolutions from the history and the user's features, exactly.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.contract.features import USER_NUMERIC
from models.retrieval.graph import Graph
from models.retrieval.propagating import PropagatingModel, sum_of_distinct

INIT_STD = 0.1


class GcnConfig(NamedTuple):
    dim: int = 64
    hidden: int = 128
    history_length: int = 200
    dropout: float = 0.1
    edge_weight: float = 1.0


class NodeFeatures(NamedTuple):
    """codes: int64 [n, m] of each categorical feature; 0 is a missing value.  sizes: vocabulary size of each.
    numeric: float32 [n, G]."""

    codes: list[Tensor]
    sizes: list[int]
    numeric: Tensor

    def each(self, to: Callable[[Tensor], Tensor]) -> "NodeFeatures":
        """With each of its tensors as `to` gives it: on another device."""
        return NodeFeatures([to(codes) for codes in self.codes], self.sizes, to(self.numeric))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.sizes) or self.numeric.shape[1] > 0


class FeatureWeights(nn.Module):
    """X W0 for nodes of one kind: a row of weights for each of a node's categories, and a product with its numbers.
    What is missing adds nothing."""

    def __init__(self, features: NodeFeatures, hidden: int) -> None:
        super().__init__()
        tables = [nn.Embedding(size, hidden, padding_idx=0) for size in features.sizes]
        for table in tables:
            nn.init.normal_(table.weight[1:], std=INIT_STD)
        self.tables = nn.ModuleList(tables)
        self.numbers = nn.Parameter(torch.empty(features.numeric.shape[1], hidden))
        nn.init.normal_(self.numbers, std=INIT_STD)

    def forward(self, codes: list[Tensor], numeric: Tensor) -> Tensor:
        """codes int64 [n, m] of each feature, numeric float32 [n, G] -> [n, hidden]."""
        rows = torch.zeros(len(numeric), self.numbers.shape[1], device=numeric.device)
        if len(self.numbers):  # a product over nothing cannot be quantized
            rows = numeric @ self.numbers
        for table, of_feature in zip(self.tables, codes, strict=True):
            rows = rows + table(of_feature).sum(1)
        return rows


class Gcn(PropagatingModel):
    def __init__(
        self,
        graph: Graph,
        users: NodeFeatures,
        items: NodeFeatures,
        config: GcnConfig,
        item_ids: bool = True,
        user_columns: list[int] | None = None,
    ) -> None:
        """item_ids: False where features alone are to carry an item.  user_columns: those of `forward`'s
        user_categorical that the codes of `users` stand in; its first ones if not given."""
        super().__init__()
        self.graph, self.config = graph, config
        self.history_length = config.history_length
        self.user_features, self.item_features = bool(users), bool(items)
        self._user_columns = list(range(len(users.sizes))) if user_columns is None else user_columns
        self.user_weights = FeatureWeights(users, config.hidden)
        self.item_weights = FeatureWeights(items, config.hidden)
        self.ids = nn.Embedding(graph.num_items, config.hidden) if item_ids else None
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=INIT_STD)
            with torch.no_grad():  # what nothing trains would be noise beside the features
                self.ids.weight[torch.from_numpy(graph.to_items.row_degree() == 0)] = 0.0
        self.first_bias = nn.Parameter(torch.zeros(config.hidden))
        self.second = nn.Linear(config.hidden, config.dim)
        self._inputs = users, items
        tables = {
            "final_users": (graph.num_users, config.dim),
            "final_items": (graph.num_items, config.dim),
            "history_rows": (graph.num_items, config.hidden + config.dim),
        }
        for name, shape in tables.items():
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        self.final_users: Tensor
        self.final_items: Tensor
        self.history_rows: Tensor
        self.refresh()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        users, items = self._inputs
        self._inputs = users.each(fn), items.each(fn)
        return super()._apply(fn, recurse)

    def propagate(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users [U, d] and of all items [N, d]."""
        users, items, _ = self._propagate(self.config.dropout if self.training else 0.0)
        return users, items

    def new_users(self, users: Tensor) -> Tensor:
        """Vectors [b, d] that users int64 [b] would have without any edge: of their features alone."""
        return self._without_edges(self.user_weights, self._inputs[0], users)

    def new_items(self, items: Tensor) -> Tensor:
        """Vectors [b, d] that items int64 [b] would have without any edge, when nobody has trained their id."""
        return self._without_edges(self.item_weights, self._inputs[1], items)

    def refresh(self) -> None:
        with torch.no_grad():
            self.final_users, self.final_items, rows = self._propagate(0.0)
            self.history_rows = self.graph.to_items.row_scale * rows

    # named arguments, since torch.export cannot give the dimensions of those behind a star
    def forward(  # type: ignore[override]
        self,
        history: Tensor,
        set_ordinal: Tensor,
        user_categorical: Tensor | None = None,
        user_numeric: Tensor | None = None,
    ) -> Tensor:
        """User vectors [B, d], the user's row of both convolutions.

        user_categorical, user_numeric: of the user, as `models.contract.features` has them; where the model has
        `user_features`. Of the numbers, those that change with the moment are left out.
        """
        summed, count = sum_of_distinct(history, self.history_rows)
        scale = count.clamp(min=1).rsqrt()
        first, second = scale * summed[:, : self.config.hidden], scale * summed[:, self.config.hidden :]
        if user_categorical is not None and user_numeric is not None:
            codes = [user_categorical[:, n : n + 1] for n in self._user_columns]
            first = first + self.user_weights(codes, user_numeric[:, len(USER_NUMERIC) :])
        own = F.relu(first + self.first_bias) @ self.second.weight.T
        vectors: Tensor = second + own + self.second.bias
        return vectors

    def item_vectors(self) -> Tensor:
        return self.final_items

    def known_user_vectors(self) -> Tensor:
        """Vectors [U, d] of the users as nodes of the graph, with their friends."""
        return self.final_users

    def _without_edges(self, weights: FeatureWeights, features: NodeFeatures, nodes: Tensor) -> Tensor:
        first = weights([codes[nodes] for codes in features.codes], features.numeric[nodes])
        vectors: Tensor = self.second(F.relu(first + self.first_bias))
        return vectors

    def _propagate(self, dropout: float) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of users and of items, and what items bring into the two convolutions, [N, hidden + d]."""
        user = self.user_weights(self._inputs[0].codes, self._inputs[0].numeric)
        item = self.item_weights(self._inputs[1].codes, self._inputs[1].numeric)
        if self.ids is not None:
            item = item + self.ids.weight
        first_item = item
        user, item = self._convolve(user, item)
        user, item = (
            F.dropout(F.relu(rows + self.first_bias), dropout) @ self.second.weight.T for rows in (user, item)
        )
        users, items = self._convolve(user, item)
        return users + self.second.bias, items + self.second.bias, torch.cat([first_item, item], -1)

    def _convolve(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        graph = self.graph
        from_items = user + graph.to_users(item)
        from_users = item + graph.to_items(user)
        if graph.social is not None:
            from_items = from_items + self.config.edge_weight * graph.social(user)
        if graph.similar is not None:
            from_users = from_users + self.config.edge_weight * graph.similar(item)
        return from_items, from_users
