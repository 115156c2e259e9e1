"""GCN's training: every step convolves the whole graph and learns from a batch of its user-item edges."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models import checkpoint
from models.contract.schema import MultiFeature, VectorFeature
from models.data.dataset import Dataset
from models.distributed import BatchLoss, own_rows
from models.fitting import Fit, fit_steps
from models.hardware import placed
from models.options import GcnOptions
from models.retrieval.edge_batches import EdgeBatches, edges_softmax
from models.retrieval.gcn import Gcn, GcnConfig, NodeFeatures
from models.retrieval.graph import Graph
from models.retrieval.pairs import interaction_pairs
from models.run_log import RunLog


def build(dataset: Dataset, options: GcnOptions, until_ms: int, seed: int) -> Gcn:
    """An untrained model over the graph of what happened before until_ms.

    Raises ValueError where items would have nothing to be told apart by.
    """
    users, items = user_features(dataset), item_features(dataset)
    if not options.item_ids and not items:
        raise ValueError("train.retrieval.item_ids = false leaves gcn nothing of an item: items have no features")
    past = dataset.interactions.before(until_ms)
    pairs = past.user_index, past.item_index
    edges = dataset.social_edges, dataset.item_edges
    graph = Graph.of(pairs, dataset.num_users, dataset.num_items, *edges)
    config = GcnConfig(options.dim, options.hidden, options.history_length, options.dropout, options.edge_weight)
    torch.manual_seed(seed)
    return Gcn(graph, users, items, config, options.item_ids, _columns(dataset, "user"))


def user_features(dataset: Dataset) -> NodeFeatures:
    """Without the user's id: who is not in the data is served the same way, and nobody has to be erased from the
    weights."""
    codes = torch.from_numpy(np.array(dataset.user_categorical, np.int64))
    known, columns = dataset.schema.categorical("user"), _columns(dataset, "user")
    return NodeFeatures(
        [codes[:, n : n + 1] for n in columns],
        [known[n].size for n in columns],
        torch.from_numpy(np.array(dataset.user_numeric, np.float32)),
    )


def item_features(dataset: Dataset) -> NodeFeatures:
    """Categories, sets of categories, numbers and given vectors; text is for the content model. The id is no feature:
    `item_ids` says whether the model has it."""
    codes = torch.from_numpy(np.array(dataset.item_categorical, np.int64))
    single, columns = dataset.schema.categorical("item"), _columns(dataset, "item")
    multi = dataset.schema.of_items(MultiFeature)
    vectors = [dataset.item_vectors_given[feature.name] for feature in dataset.schema.of_items(VectorFeature)]
    return NodeFeatures(
        [
            *(codes[:, n : n + 1] for n in columns),
            *(torch.from_numpy(np.array(dataset.item_multi[feature.name], np.int64)) for feature in multi),
        ],
        [*(single[n].size for n in columns), *(feature.size for feature in multi)],
        torch.from_numpy(np.concatenate([dataset.item_numeric, *vectors], axis=1, dtype=np.float32)),
    )


def _columns(dataset: Dataset, of: Literal["user", "item"]) -> list[int]:
    """Places of the categorical features that are not the id."""
    return [place for place, feature in enumerate(dataset.schema.categorical(of)) if not feature.is_id]


def fit(dataset: Dataset, options: GcnOptions, run: Fit, log: RunLog) -> Gcn:
    """The model with the weights that validated best, in evaluation mode."""
    edges = EdgeBatches(interaction_pairs(dataset, run.until_ms), options.batch_size, run.seed)
    model = build(dataset, options, run.until_ms, run.seed)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    fit_steps(model, GcnTask(model, edges, options), options, run, log)
    return model


class GcnTask:
    """Softmax of each edge against uniformly drawn items that are none of the user's.

    A share of users and items stands there as if they were new: that is how features learn to carry those who are.
    """

    def __init__(self, model: Gcn, edges: EdgeBatches, options: GcnOptions) -> None:
        self._model, self._edges, self._options = model, edges, options
        self.num_batches = len(edges)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        users, items = self._edges.batch(epoch, number)
        model, share = self._model, self._options.new_share
        user_vectors, item_vectors = model.propagate()
        user_vectors = _some_as_new(user_vectors, model.new_users, share, rng)
        if model.item_features:  # without features, new items are all the same
            item_vectors = _some_as_new(item_vectors, model.new_items, share, rng)
        drawn = self._edges.draw_items(self._options.negatives, rng)
        rows = own_rows(len(users))
        loss = edges_softmax(user_vectors, item_vectors, users[rows], items[rows], drawn, self._edges.positives)
        return BatchLoss(loss, rows.stop - rows.start)


def _some_as_new(vectors: Tensor, new: Callable[[Tensor], Tensor], share: float, rng: np.random.Generator) -> Tensor:
    rows = placed(np.flatnonzero(rng.random(len(vectors)) < share), vectors.device)
    return vectors.index_copy(0, rows, new(rows).to(vectors.dtype))
