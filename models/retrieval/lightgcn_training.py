"""LightGCN's training: every step propagates over the whole graph and learns from a batch of its user-item edges."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import checkpoint
from models.data.dataset import Dataset
from models.distributed import BatchLoss, of_all, own_rows
from models.fitting import Fit, fit_steps
from models.hardware import placed
from models.losses import bpr
from models.options import LightGcnOptions
from models.retrieval.edge_batches import EdgeBatches, edges_softmax
from models.retrieval.graph import Graph
from models.retrieval.lightgcn import LightGcn, LightGcnConfig
from models.retrieval.pairs import interaction_pairs
from models.run_log import RunLog
from models.sampling import Proposal, negatives

SCALES = [2.0 ** (power / 2) for power in range(21)]  # 1 to 1024


def build(dataset: Dataset, options: LightGcnOptions, until_ms: int, seed: int) -> LightGcn:
    """An untrained model over the graph of what happened before until_ms."""
    past = dataset.interactions.before(until_ms)
    pairs = past.user_index, past.item_index
    graph = Graph.of(pairs, dataset.num_users, dataset.num_items, dataset.social_edges, dataset.item_edges)
    torch.manual_seed(seed)
    return LightGcn(graph, config(options))


def config(options: LightGcnOptions) -> LightGcnConfig:
    return LightGcnConfig(options.dim, options.layers, options.history_length, options.edge_weight)


def fit(dataset: Dataset, options: LightGcnOptions, run: Fit, log: RunLog) -> LightGcn:
    """The model with the weights that validated best, in evaluation mode."""
    edges = EdgeBatches(interaction_pairs(dataset, run.until_ms), options.batch_size, run.seed)
    model = build(dataset, options, run.until_ms, run.seed)
    task = LightGcnTask(model, edges, options)
    if run.weights is None:
        start(model, task)
    else:
        checkpoint.set_weights(model, run.weights)
    fit_steps(model, task, options, run, log)
    return model


def start(model: LightGcn, task: "LightGcnTask") -> None:
    """First vectors from the graph, of the length at which the first batch loses least: scores are sums of products
    whose size depends on the degrees, so no fixed length suits every graph."""
    model.start_from_spectrum()
    losses = []
    with torch.no_grad():
        for scale in SCALES:
            model.scale.fill_(scale)
            losses.append(of_all(task.loss(0, 0, np.random.default_rng(0)))[0])
        model.scale.fill_(SCALES[int(np.argmin(losses))])


class LightGcnTask:
    """bpr: each edge against an item of its own.  sampled_softmax: against items that the step shares. Negatives are
    drawn uniformly and are none of the user's items."""

    def __init__(self, model: LightGcn, edges: EdgeBatches, options: LightGcnOptions) -> None:
        self._model, self._edges, self._options = model, edges, options
        # next to never an item that nobody has
        taken = np.isin(np.arange(edges.positives.num_items), edges.taken_items)
        self._taken = Proposal.of_popularity(np.where(taken, 1e9, 0.0), 1)
        self.num_batches = len(edges)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        users, items = self._edges.batch(epoch, number)
        positives, options = self._edges.positives, self._options
        rows = own_rows(len(users))
        user_vectors, item_vectors, _ = self._model.propagate()
        if options.loss == "bpr":
            others = negatives(users, 1, self._taken, positives, rng)[rows]
            users, items = users[rows], items[rows]
            user, item, other = (placed(array, user_vectors.device) for array in (users, items, others))
            vectors = user_vectors[user]
            own = (vectors * item_vectors[item]).sum(-1)  # [b]
            loss = bpr(own, (item_vectors[other] @ vectors.unsqueeze(2)).squeeze(2))
        else:
            others = self._edges.draw_items(options.negatives, rng)
            users, items = users[rows], items[rows]
            loss = edges_softmax(user_vectors, item_vectors, users, items, others, positives)
        return BatchLoss(loss + options.l2 * self._squared_length(users, items, others), len(users))

    def _squared_length(self, users: NDArray[np.int64], items: NDArray[np.int64], others: NDArray[np.int64]) -> Tensor:
        """Half the squared length of the batch's first vectors, divided by its edges (He et al. 2020, equation 15)."""
        of_users, of_items = self._model.users.weight, self._model.items.weight
        user, item, other = (placed(array, of_users.device) for array in (users, items, others.ravel()))
        chosen = of_users[user], of_items[item], of_items[other]
        return sum(((vectors**2).sum() for vectors in chosen), start=torch.zeros(())) / (2 * len(users))
