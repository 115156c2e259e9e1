"""Content: an item is what its features say, a user the mean of what they took. No one has to have touched an item.

Texts, categories, numbers and given vectors each become a block of an item's vector (Lops et al. 2011 survey the
method); the score is a cosine.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.contract.schema import MultiFeature, TextFeature, VectorFeature
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import ContentOptions, ContentVectors
from models.retrieval.model import RetrievalModel
from models.retrieval.popularity import popularity_column, with_popularity
from models.run_log import RunLog
from models.svd import FAINT, row_vectors, unit_rows
from models.text import item_text_vectors, tfidf

MAX_DEVIATIONS = 3.0  # numbers further from the mean count as this far


class Content(RetrievalModel):
    """Item vectors [N, d + 1] are the content, of length 1 or zero, and the item's popularity, for cold users.

    content: float32 [N, d].  half_life_sets: of an interaction's weight in the user vector.
    """

    content: Tensor
    popularity: Tensor

    def __init__(self, popularity: Tensor, dim: int, history_length: int, half_life_sets: float) -> None:
        super().__init__()
        self.history_length, self.half_life_sets = history_length, half_life_sets
        self.register_buffer("content", torch.zeros(len(popularity), dim))
        self.register_buffer("popularity", popularity, persistent=False)  # as of the moment it is used for

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        weights = torch.exp2((1 - set_ordinal) / self.half_life_sets) * (history > 0)  # [B, L]
        # A product adds in one order, whatever the batch: [B, 1, L] @ [B, L, d]
        profile = (weights.unsqueeze(1) @ self.content[(history - 1).clamp(min=0)]).squeeze(1)
        return with_popularity(unit_rows(profile))

    def item_vectors(self) -> Tensor:
        return torch.cat([self.content, self.popularity.unsqueeze(1)], 1)


def content_vectors(dataset: Dataset, options: ContentVectors, seed: int = 0) -> Tensor:
    """float32 [N, d] of length 1, zero for an item nothing is known of; d is `content_dim`.

    Where d is less than the features give, products are as near to the cosines as d numbers allow.
    """
    blocks = [
        *((options.text_weight, block) for block in _texts(dataset, options.text_dim)),
        (options.category_weight, _categories(dataset, options.dim, seed)),
        (options.numeric_weight, _numbers(dataset)),
        *((options.vector_weight, block) for block in _given(dataset)),
    ]
    together = unit_rows(torch.cat([weight * block for weight, block in blocks], 1))
    return row_vectors(together, options.dim, seed) if together.shape[1] > options.dim else together


def content_dim(dataset: Dataset, options: ContentVectors) -> int:
    """Raises ValueError for items without features."""
    schema = dataset.schema
    dims = [options.text_dim] * len(schema.of_items(TextFeature))
    dims += [feature.dim for feature in schema.of_items(VectorFeature)]
    dims += [len(schema.numeric("item")), min(_num_categories(dataset), options.dim)]
    if not sum(dims):
        raise ValueError("content is made of the features of the items; name some in items.features")
    return min(sum(dims), options.dim)


def make(dataset: Dataset, options: ContentVectors, history_length: int, until_ms: int) -> Content:
    """Without content yet; its popularity is as of until_ms. Raises ValueError for items without features."""
    popularity, dim = popularity_column(dataset, until_ms), content_dim(dataset, options)
    return Content(popularity, dim, history_length, options.half_life_sets).eval()


def build(dataset: Dataset, options: ContentOptions, until_ms: int, seed: int) -> Content:
    return make(dataset, options, options.history_length, until_ms)


def fit(dataset: Dataset, options: ContentOptions, run: Fit, log: RunLog) -> Content:
    """Nothing is learned from interactions. Raises ValueError for items without features."""
    log.start(run.stage, 1)
    model = build(dataset, options, run.until_ms, run.seed)
    model.content = content_vectors(dataset, options, run.seed)
    log.step(run.stage, 1, {"validation": run.validate(model)} if run.validate else {})
    unknown = int((model.content.norm(dim=1) < FAINT).sum())
    log.finish(run.stage, f"{model.content.shape[1]} dimensions, {unknown:,} items without content")
    return model


def _texts(dataset: Dataset, dim: int) -> list[Tensor]:
    return [item_text_vectors(dataset, feature.name, dim) for feature in dataset.schema.of_items(TextFeature)]


def _num_categories(dataset: Dataset) -> int:
    """Values of all categorical and multi-valued features but the id, which is no content."""
    schema = dataset.schema
    single = sum(len(feature.vocabulary) for feature in schema.categorical("item") if not feature.is_id)
    return single + sum(len(feature.vocabulary) for feature in schema.of_items(MultiFeature))


def _categories(dataset: Dataset, dim: int, seed: int) -> Tensor:
    """All values of all features, the rare weighing more, as at most `dim` dimensions."""
    schema, count = dataset.schema, _num_categories(dataset)
    if not count:
        return torch.zeros(dataset.num_items, 0)
    codes = np.asarray(dataset.item_categorical)
    tables = [
        (codes[:, [place]], feature.size)
        for place, feature in enumerate(schema.categorical("item"))
        if not feature.is_id
    ]
    tables += [(np.asarray(dataset.item_multi[f.name]), f.size) for f in schema.of_items(MultiFeature)]
    rows, columns, first = [], [], 0
    for table, size in tables:
        row, slot = np.nonzero(table)
        rows.append(row)
        columns.append(table[row, slot].astype(np.int64) + first)
        first += size
    matrix = tfidf(np.concatenate(rows), np.concatenate(columns), dataset.num_items)
    return unit_rows(row_vectors(matrix, min(count, dim), seed))


def _numbers(dataset: Dataset) -> Tensor:
    """Each about within -1 to 1, and the length of all of them too."""
    numbers = torch.from_numpy(np.array(dataset.item_numeric, np.float32))
    bounded: Tensor = numbers.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS) / MAX_DEVIATIONS
    length: float = max(numbers.shape[1], 1) ** 0.5
    return bounded / length


def _given(dataset: Dataset) -> list[Tensor]:
    vectors = dataset.item_vectors_given
    return [
        F.normalize(torch.from_numpy(np.array(vectors[feature.name], np.float32)))
        for feature in dataset.schema.of_items(VectorFeature)
    ]
