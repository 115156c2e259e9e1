"""A retrieval model and the items' content together: the score is a weighted sum of the two models' scores."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.contract.user_inputs import FEATURES, HISTORY, user_inputs
from models.data.dataset import Dataset
from models.fitting import Fit
from models.offline import moments
from models.options import ContentShare
from models.retrieval.content import Content, content_vectors, make
from models.retrieval.model import RetrievalModel

NUM_MEASURED = 256  # users whose scores tell how far a model's scores lie apart


class Hybrid(RetrievalModel):
    """score = (1 - weight) x the score of `other` / its spread + weight x the score of `content` / its spread.

    So user vectors and item vectors are those of the two models side by side.  spreads: float32 [2], see `measure`.
    """

    spreads: Tensor

    def __init__(self, other: RetrievalModel, content: Content, weight: float) -> None:
        super().__init__()
        self.other, self.content, self.weight = other, content, weight
        self.history_length, self.user_features = other.history_length, other.user_features
        self.register_buffer("spreads", torch.ones(2))

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        other = self.other(history, set_ordinal, *user_features) * ((1.0 - self.weight) / self.spreads[0])
        content = self.content(history, set_ordinal) * (self.weight / self.spreads[1])
        return torch.cat([other, content], 1)

    def item_vectors(self) -> Tensor:
        return torch.cat([self.other.item_vectors(), self.content.item_vectors()], 1)


def build(dataset: Dataset, share: ContentShare, until_ms: int, other: RetrievalModel) -> Hybrid:
    """Around an untrained model. Raises ValueError for items without features."""
    return Hybrid(other, make(dataset, share, other.history_length, until_ms), share.weight)


def fit(dataset: Dataset, share: ContentShare, run: Fit, fit_other: Callable[[Fit], RetrievalModel]) -> Hybrid:
    """The other model is trained and validated by itself; then the content stands beside it."""
    weights = run.weights and {
        name.removeprefix("other."): array for name, array in run.weights.items() if name.startswith("other.")
    }
    model = build(dataset, share, run.until_ms, fit_other(replace(run, weights=weights)))
    model.content.content = content_vectors(dataset, share, run.seed)
    with torch.inference_mode():
        model.spreads = torch.stack([measure(dataset, part, run.until_ms) for part in (model.other, model.content)])
    return model.eval()


def measure(dataset: Dataset, model: RetrievalModel, until_ms: int) -> Tensor:
    """How far a user's scores of the catalogue lie apart: the standard deviation, its mean over users with a history
    before until_ms; 1 where there is nothing to tell."""
    active = np.unique(dataset.interactions.before(until_ms).user_index)
    users = active[np.linspace(0, len(active) - 1, min(NUM_MEASURED, len(active))).astype(np.int64)]
    whos = moments(dataset, users.tolist(), until_ms)
    if not whos:
        return torch.ones(())
    features = [who.features(dataset.schema) for who in whos]
    made = user_inputs((*HISTORY, *FEATURES), model.history_length, [who.history for who in whos], features)
    vectors = model(*(torch.from_numpy(made[name]) for name in model.tower_inputs))
    spread = (vectors @ model.item_vectors().T).std(dim=1).mean()
    return torch.where(spread > 0, spread, 1.0)
