"""LightGCN (He et al. 2020): vectors of users and items, averaged over their neighbourhoods.

A layer is the normalised sum of the neighbours, e_u' = sum over u's items of e_i / sqrt(d_u d_i) and the same for
items; the final vector is the mean over layers 0..K. Friends and similar items are further relations, each normalised
by its own degrees and added with one weight: a user or an item without interactions has a vector through them.

Serving knows a user by history alone. All of the final user vector but e_u / (K + 1) is a sum over the user's items of
rows that are fixed once training is over, so the exported tower is that sum. What friends add is not in a history: it
is in `known_user_vectors`. A cold user's friends can be served by giving the tower the friends' items as history.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.retrieval.graph import Graph
from models.retrieval.propagating import PropagatingModel, sum_of_distinct

STD = 0.1  # of first vectors
ROUNDS = 8


class LightGcnConfig(NamedTuple):
    dim: int = 64
    layers: int = 3
    history_length: int = 200
    edge_weight: float = 1.0


class Propagated(NamedTuple):
    """users [U, d] and items [N, d]: final vectors.  sent [N, d]: what an item gives to the final vector of each of its
    users, before the division by the square root of the user's degree."""

    users: Tensor
    items: Tensor
    sent: Tensor


class LightGcn(PropagatingModel):
    def __init__(self, graph: Graph, config: LightGcnConfig) -> None:
        super().__init__()
        self.graph, self.config = graph, config
        self.history_length = config.history_length
        self.users = nn.Embedding(graph.num_users, config.dim)
        self.items = nn.Embedding(graph.num_items, config.dim)
        self.scale = nn.Parameter(torch.ones(()))  # of all first vectors, so that steps suit any size of the scores
        for table, relation in ((self.users, graph.to_users), (self.items, graph.to_items)):
            nn.init.normal_(table.weight, std=STD)
            with torch.no_grad():  # a vector that nothing trains would be noise in its neighbours' vectors
                table.weight[torch.from_numpy(relation.row_degree() == 0)] = 0.0
        self.final_users: Tensor
        self.final_items: Tensor
        self.history_rows: Tensor
        self.no_history: Tensor
        self.register_buffer("final_users", torch.zeros(graph.num_users, config.dim), persistent=False)
        self.register_buffer("final_items", torch.zeros(graph.num_items, config.dim), persistent=False)
        self.register_buffer("history_rows", torch.zeros(graph.num_items, config.dim), persistent=False)
        self.register_buffer("no_history", torch.zeros(config.dim), persistent=False)
        self.refresh()

    def propagate(self) -> Propagated:
        graph, layers = self.graph, self.config.layers
        user, item = self.scale * self.users.weight, self.scale * self.items.weight
        users, items, sent = user, item, torch.zeros_like(item)
        for _ in range(layers):
            sent = sent + item
            from_items, from_users = graph.to_users(item), graph.to_items(user)
            if graph.social is not None:
                from_items = from_items + self.config.edge_weight * graph.social(user)
            if graph.similar is not None:
                from_users = from_users + self.config.edge_weight * graph.similar(item)
            user, item = from_items, from_users
            users, items = users + user, items + item
        mean = 1 / (layers + 1)
        return Propagated(mean * users, mean * items, mean * graph.to_items.row_scale * sent)

    def start_from_spectrum(self) -> None:
        """First vectors from the graph: those of items span its leading singular vectors, all of one weight, and those
        of users are zero. By subspace iteration (Halko et al. 2011, algorithm 4.4) from the items' random vectors.

        Users sum over their items, so this is a model before any step: random vectors took over 500 steps on
        MovieLens-1M to rank as well.
        """
        to_users, to_items = self.graph.to_users, self.graph.to_items
        with torch.no_grad():
            basis = torch.linalg.qr(self.items.weight).Q  # [N, min(N, d)]
            for _ in range(ROUNDS):
                basis = torch.linalg.qr(to_items(to_users(basis))).Q
            self.users.weight.zero_()
            self.items.weight.zero_()
            taken = torch.from_numpy(to_items.row_degree() > 0)  # more dimensions than the graph has rank reach others
            self.items.weight[taken, : basis.shape[1]] = STD * len(basis) ** 0.5 * basis[taken]
        self.refresh()

    def refresh(self) -> None:
        with torch.no_grad():
            self.final_users, self.final_items, self.history_rows = self.propagate()
            # the mean over those with a history scores an item by its mean score over them: popular items come first
            active = torch.from_numpy(self.graph.to_users.row_degree() > 0).to(self.final_users.device)
            self.no_history = self.final_users[active].sum(0) / active.sum().clamp(min=1)

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        """User vectors [B, d] from the distinct items of the history; that of nobody in particular for an empty one."""
        summed, count = sum_of_distinct(history, self.history_rows)
        return torch.where(count > 0, summed * count.clamp(min=1).rsqrt(), self.no_history)

    def item_vectors(self) -> Tensor:
        """Final item vectors [N, d]."""
        return self.final_items

    def known_user_vectors(self) -> Tensor:
        """Final user vectors [U, d] with the user's own part and their friends'; zero for who has neither."""
        return self.final_users
