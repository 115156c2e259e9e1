"""Candidate lists as the ranker takes them: batches of lists, their logits, and how good their order is."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import metrics
from models.compress.soft import Taught
from models.data.dataset import Dataset
from models.distributed import BatchLoss, gather, total, world
from models.hardware import device_of, placed
from models.ranking.inputs import item_codes
from models.ranking.losses import list_loss, loss_weight
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.ranking.samples import RankerSamples


class ListTask:
    """Learning from candidate lists, validated by the order of other lists."""

    validations_per_epoch = 2

    def __init__(
        self,
        model: Ranker,
        dataset: Dataset,
        train: RankerSamples,
        valid: RankerSamples,
        options: RankerOptions,
        seed: int,
        taught: Taught | None = None,
    ) -> None:
        """taught: what a teacher says of the training rows, beside their labels."""
        self._model, self._dataset, self._train, self._valid = model, dataset, train, valid
        self._options, self._seed, self._taught = options, seed, taught
        self._categories = item_codes(dataset)
        self._place, self._count = _places(train)
        self.num_batches = -(-self._count // options.batch_size)

    def loss(self, epoch: int, number: int) -> BatchLoss:
        """The loss of one batch: a slice of the epoch's own random order of the lists."""
        size = self._options.batch_size
        order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
        lists = self._place[order[number * size : (number + 1) * size]]
        lists = lists[lists >= 0]
        if not len(lists):
            return BatchLoss(torch.zeros(()), 0)
        rows, row_list = _rows(self._train, lists)
        logits = _score(self._model, self._categories, self._train, lists, rows, row_list)
        labels = placed(self._train.labels[rows], logits.device)
        weights = None if self._train.weights is None else placed(self._train.weights[rows], logits.device)
        list_of = placed(row_list, logits.device)
        loss = list_loss(self._options.loss, logits, labels, list_of, weights)
        if self._taught is not None:
            told = placed(self._taught.logits[rows], logits.device)
            loss = self._taught.soft.mixed(loss, logits, told, list_of)
        return BatchLoss(loss, loss_weight(self._options.loss, self._train.labels[rows], row_list))

    def validate(self) -> float:
        return list_ndcg(self._valid, predict(self._model, self._dataset, self._valid))


def predict(model: Ranker, dataset: Dataset, samples: RankerSamples, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits of every row, float32 [n]."""
    model.eval()
    categories = item_codes(dataset)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            lists = np.arange(start, min(start + batch_size, len(samples)))
            rows, row_list = _rows(samples, lists)
            parts.append(_score(model, categories, samples, lists, rows, row_list).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def list_ndcg(samples: RankerSamples, scores: NDArray[np.float32], k: int = 10) -> float:
    """Mean NDCG@k over the lists that have a target, the two kinds of list (seen items or not) weighing alike.

    With list_weights a weighted mean: training would else stop where the ranker agrees best with the places that its
    validation clicks were made at.
    """
    hits = np.zeros((len(samples), k), np.bool_)
    for number in range(len(samples)):
        rows = slice(samples.offsets[number], samples.offsets[number + 1])
        top = np.argsort(-scores[rows], kind="stable")[:k]
        hits[number, : len(top)] = samples.labels[rows][top] > 0
    kinds = [(samples.num_targets > 0) & (samples.include_seen == kind) for kind in (True, False)]
    sums = total(np.array([_ndcg_and_weight(samples, hits, kind) for kind in kinds]))  # of all processes' lists
    return float(np.mean([value / weight for value, weight in sums if weight]))


def _ndcg_and_weight(samples: RankerSamples, hits: NDArray[np.bool_], kind: NDArray[np.bool_]) -> tuple[float, float]:
    """Sums over some of the lists: of their NDCG times their weight, and of their weights.

    hits: bool [G, k], kind: bool [G].
    """
    values = metrics.ndcg(hits[kind], samples.num_targets[kind], hits.shape[1])
    weights = np.ones(len(values)) if samples.list_weights is None else samples.list_weights[kind].astype(np.float64)
    return float((values * weights).sum()), float(weights.sum())


def _places(samples: RankerSamples) -> tuple[NDArray[np.int64], int]:
    """Where each of all processes' lists is among this one's, int64 [count], -1 for another's; and their count.

    All are ordered by window, user and kind, so that a batch has the same lists however many processes share it.
    """
    keys = gather(np.stack([samples.window, samples.users, ~samples.include_seen], 1))
    owner = np.repeat(np.arange(len(keys)), [len(own) for own in keys])
    place = np.concatenate([np.arange(len(own)) for own in keys])
    order = np.lexsort(np.concatenate(keys).T[::-1])
    return np.where(owner == world().rank, place, -1)[order], len(order)


def _rows(samples: RankerSamples, lists: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the lists, and for each row the position of its list among them."""
    sizes = samples.offsets[lists + 1] - samples.offsets[lists]
    row_list = np.repeat(np.arange(len(lists)), sizes)
    starts = np.repeat(samples.offsets[lists] - (np.cumsum(sizes) - sizes), sizes)
    return starts + np.arange(len(row_list)), row_list


def _score(
    model: Ranker,
    categories: Tensor,
    samples: RankerSamples,
    lists: NDArray[np.int64],
    rows: NDArray[np.int64],
    row_list: NDArray[np.int64],
) -> Tensor:
    items, device = samples.items[rows], device_of(model)
    score: Tensor = model(
        placed(samples.user_categorical[lists], device),
        placed(samples.user_numeric[lists], device),
        categories[torch.from_numpy(items)].to(device),
        placed(samples.item_numeric[samples.window[lists][row_list], items], device),
        placed(samples.cross[rows], device),
        placed(row_list, device),
        *(placed(array, device) for array in _histories(model, samples, lists)),
    )
    return score


def _histories(model: Ranker, samples: RankerSamples, lists: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """What the user's side takes besides the features."""
    if not model.user_module.history_length:
        return []
    return [array[lists].astype(np.int64) for array in (samples.history, samples.set_ordinal)]
