"""Models with planted weights, in the training folder where trained ones would be: hours of training a synthetic
catalogue would teach nobody anything, but what is measured on it must do the work of trained models.

The user vector is a recency-weighted mixture of the recent items' vectors, the ranker goes by the cross features, and
small random weights everywhere let no graph be simpler than a trained one.
"""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import checkpoint
from models.contract.features import cross_names
from models.data.dataset import Dataset
from models.options import TrainSection
from models.ranking.embedding import FieldEmbedding
from models.ranking.pieces import Ranker
from models.ranking.train import build_ranker, start_from_mean
from models.retrieval.sasrec import Block, SasRec
from models.retrieval.train import build_model
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, StageFiles

POPULARITY_WEIGHT = 0.1  # of an item's log-popularity beside a product of about 8 with the user vector
RANDOM_SCALE = 0.2  # of the blocks' random weights, of what an untrained model has
MIXTURE = (0.1, 1.0)  # share of the recency-weighted mixture that each block adds
FIELD_STD = 0.1  # of the ranker's field vectors and weights
POSITIVE_SHARE = 0.05
CROSS_WEIGHTS = {
    "retrieval_z": 0.8,
    "retrieval_log_rank": -0.4,
    "own_log_count": 0.3,
    "own_decayed_14d": 0.2,
    "neighbour_sum": 0.5,
    "neighbour_max": 0.5,
    "affinity_category": 0.6,
    "affinity_brand": 0.4,
}


def plant_models(dataset: Dataset, options: TrainSection, item_vectors: NDArray[np.float32], folder: Path) -> None:
    """Write the stages that `models.train` would have written. The options name a SASRec of two layers and a ranker.

    item_vectors: float32 [N, d] in the order of the item indices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.json").write_text(options.model_dump_json(indent=2), "utf-8")
    files = StageFiles(dataset, options, folder)
    model = build_model(dataset, options, dataset.splits.end_ms)
    assert isinstance(model, SasRec)
    plant_sasrec(model, item_vectors)
    files.finish(RETRIEVAL, checkpoint.weights(model), {})
    for stage in (RETRIEVAL_TEST, RETRIEVAL_LAST):  # the same weights under the same key: one file
        os.link(files.finished(RETRIEVAL), files.finished(stage))
    ranker = build_ranker(dataset, options)
    plant_ranker(ranker, cross_names(dataset.schema), options)
    files.finish(RANKER, checkpoint.weights(ranker), {})


@torch.no_grad()
def plant_sasrec(model: SasRec, item_vectors: NDArray[np.float32]) -> None:
    """Attention with the identity for its values leaves the softmax of the distance bias: 1 / distance in one head,
    1 / sqrt(distance) in the other. The user vector has the mean of the history and its newest item besides."""
    items = model.items
    everything = torch.arange(len(item_vectors))
    items.ids.weight.copy_(torch.from_numpy(item_vectors) - items.features(everything))
    items.popularity_weight.fill_(POPULARITY_WEIGHT)
    model.content_norm.weight[-1] = 0.0  # popularity is the item's, no taste of the user's
    model.newest_weight.fill_(0.3)
    for block, share in zip(model.blocks, MIXTURE, strict=True):
        assert isinstance(block, Block)
        for parameter in block.parameters():
            if parameter.dim() == 2 and parameter is not block.attention.distance_bias:
                parameter.mul_(RANDOM_SCALE)
        identity = torch.eye(model.config.dim)
        block.attention.value.weight.add_(identity)
        block.attention.out.weight.add_(share * identity)


@torch.no_grad()
def plant_ranker(model: Ranker, cross: list[str], options: TrainSection) -> None:
    """cross: names of the cross features."""
    start_from_mean(model, POSITIVE_SHARE, options.ranker)
    for place, name in enumerate(cross):
        model.head_module.cross_weight[place] = CROSS_WEIGHTS.get(name, 0.0)
    for module in model.modules():
        if isinstance(module, FieldEmbedding):
            module.table.normal_(std=FIELD_STD)
            module.numeric.normal_(std=FIELD_STD)
