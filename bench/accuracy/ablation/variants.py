"""What an ablation takes away: groups of the ranker's features, or kinds of its negatives."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from models.contract.features import USER_NUMERIC, cross_names
from models.data.dataset import Dataset
from models.item_stats import NAMES
from models.ranking.samples import RankerSamples

Group = Literal["retrieval score", "own history", "neighbours", "affinity", "item sales", "item features",
                "user activity", "user features, context"]  # fmt: skip
_PREFIXES = {
    "retrieval score": "retrieval_",
    "own history": "own_",
    "neighbours": "neighbour_",
    "affinity": "affinity_",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """without: features that are set to what a missing value has, in training and test.

    sampled: uniformly drawn items beside the candidates of a list.  candidates: whether candidates that the user did
    not turn to are negatives.
    """

    name: str
    without: tuple[Group, ...] = ()
    sampled: int = 10
    candidates: bool = True


FULL = Variant("everything")
VARIANTS = [
    FULL,
    *(Variant(f"without {group}", (group,)) for group in get_args(Group)),
    Variant("candidates alone", sampled=0),
    Variant("candidates and 50 sampled", sampled=50),
    Variant("50 sampled alone", sampled=50, candidates=False),
]


def without_items(dataset: Dataset, variant: Variant) -> Dataset:
    """The dataset as a ranker reads it that does without the item features; the numbers are in the samples."""
    if "item features" not in variant.without:
        return dataset
    multi = {name: np.zeros_like(codes) for name, codes in dataset.item_multi.items()}
    return replace(dataset, item_categorical=np.zeros_like(dataset.item_categorical), item_multi=multi)


def masked(samples: RankerSamples, dataset: Dataset, variant: Variant) -> RankerSamples:
    """The same lists with the variant's features at 0: the code, and the standardised value, of what is missing."""
    cross, items = samples.cross.copy(), samples.item_numeric.copy()
    numbers, categories = samples.user_numeric.copy(), samples.user_categorical.copy()
    names = cross_names(dataset.schema)
    for group in variant.without:
        if prefix := _PREFIXES.get(group):
            cross[:, [name.startswith(prefix) for name in names]] = 0
        elif group == "item sales":
            items[..., -len(NAMES) :] = 0
        elif group == "item features":
            items[..., : -len(NAMES)] = 0
        elif group == "user activity":
            numbers[:, : len(USER_NUMERIC)] = 0
        else:
            numbers[:, len(USER_NUMERIC) :] = 0
            categories[:] = 0
    return replace(samples, cross=cross, item_numeric=items, user_numeric=numbers, user_categorical=categories)


def without_candidates(samples: RankerSamples, alone: RankerSamples) -> RankerSamples:
    """The lists without candidates that the user did not turn to.  alone: the same lists with nothing sampled, so that
    a list's sampled items are those beyond its length there."""
    sizes, candidates = np.diff(samples.offsets), np.diff(alone.offsets)
    place = np.arange(len(samples.items)) - np.repeat(samples.offsets[:-1], sizes)
    kept = (place >= np.repeat(candidates, sizes)) | (samples.labels > 0)
    counts = np.bincount(np.repeat(np.arange(len(sizes)), sizes)[kept], minlength=len(sizes))
    rows = {name: getattr(samples, name)[kept] for name in ("items", "cross", "labels")}
    weights = None if samples.weights is None else samples.weights[kept]
    return replace(samples, offsets=np.cumsum([0, *counts]).astype(np.int64), weights=weights, **rows)
