"""Popularity: every user gets the same list; the baseline of all others, and how cold users are ranked by them."""

import torch
from torch import Tensor

from models.baselines import POPULARITY_HALF_LIFE_DAYS, popularity
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import PopularityOptions
from models.retrieval.model import RetrievalModel
from models.retrieval.pairs import interaction_matrix
from models.run_log import RunLog

POPULARITY_WEIGHT = 1e-5  # orders what a history says nothing of, too small to change what it says


class Popularity(RetrievalModel):
    """User vectors [B, 1] of ones, item vectors [N, 1].  column: float32 [N]."""

    column: Tensor

    def __init__(self, column: Tensor, history_length: int) -> None:
        super().__init__()
        self.history_length = history_length
        self.register_buffer("column", column, persistent=False)  # as of the moment it is used for, not learned

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        return torch.ones_like(history[:, :1], dtype=torch.float32)

    def item_vectors(self) -> Tensor:
        return self.column.unsqueeze(1)


def popularity_column(dataset: Dataset, until_ms: int, half_life_days: float = POPULARITY_HALF_LIFE_DAYS) -> Tensor:
    """Logarithm of 1 + the decayed number of interactions before until_ms, float32 [N], over its largest value."""
    past = dataset.interactions.before(until_ms)
    logarithms = torch.from_numpy(popularity(past, dataset.num_items, until_ms, half_life_days)).log1p()
    return (logarithms / logarithms.max().clamp(min=1e-9)).float()


def with_popularity(user_vectors: Tensor) -> Tensor:
    """[B, d] -> [B, d + 1]. The last number meets the items' popularity: without a history, all else is zero and the
    list is the popular one."""
    return torch.cat([user_vectors, torch.full_like(user_vectors[:, :1], POPULARITY_WEIGHT)], 1)


def build(dataset: Dataset, options: PopularityOptions, until_ms: int, seed: int) -> Popularity:
    return Popularity(popularity_column(dataset, until_ms, options.half_life_days), options.history_length).eval()


def fit(dataset: Dataset, options: PopularityOptions, run: Fit, log: RunLog) -> Popularity:
    """Counting is all. Raises ValueError when there is nothing to count."""
    log.start(run.stage, 1)
    interaction_matrix(dataset, run.until_ms)
    model = build(dataset, options, run.until_ms, run.seed)
    log.step(run.stage, 1, {"validation": run.validate(model)} if run.validate else {})
    log.finish(run.stage, "counted")
    return model
