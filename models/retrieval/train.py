"""The retrieval models by their name in `[train.retrieval]`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import TrainSection
from models.retrieval import (
    bpr,
    content,
    ease,
    gcn_training,
    hybrid,
    ials,
    item_to_item,
    lightgcn_training,
    linear,
    popularity,
    sasrec_training,
    two_tower_training,
)
from models.retrieval.model import RetrievalModel
from models.run_log import RunLog


@dataclass(frozen=True, slots=True)
class Recipe:
    """build: an untrained model of the right shapes, (dataset, options, until_ms, seed).  fit: a trained one."""

    build: Callable[[Dataset, Any, int, int], RetrievalModel]
    fit: Callable[[Dataset, Any, Fit, RunLog], RetrievalModel]


RECIPES = {
    "content": Recipe(content.build, content.fit),
    "popularity": Recipe(popularity.build, popularity.fit),
    "item_to_item": Recipe(linear.build, item_to_item.fit),
    "ease": Recipe(linear.build, ease.fit),
    "ials": Recipe(ials.build, ials.fit),
    "bpr": Recipe(bpr.build, bpr.fit),
    "sasrec": Recipe(sasrec_training.build, sasrec_training.fit),
    "lightgcn": Recipe(lightgcn_training.build, lightgcn_training.fit),
    "gcn": Recipe(gcn_training.build, gcn_training.fit),
    "two_tower": Recipe(two_tower_training.build, two_tower_training.fit),
}


def build_model(dataset: Dataset, options: TrainSection, until_ms: int) -> RetrievalModel:
    """An untrained model, whose tables (popularity, the graph) are as of until_ms."""
    model = RECIPES[options.retrieval.model].build(dataset, options.retrieval, until_ms, options.seed)
    return hybrid.build(dataset, options.content, until_ms, model) if options.content else model


def fit(dataset: Dataset, options: TrainSection, run: Fit, log: RunLog) -> RetrievalModel:
    """The trained model in evaluation mode. Raises ValueError for data that this model cannot be trained on."""

    def alone(run: Fit) -> RetrievalModel:
        return RECIPES[options.retrieval.model].fit(dataset, options.retrieval, run, log)

    return hybrid.fit(dataset, options.content, run, alone) if options.content else alone(run)
