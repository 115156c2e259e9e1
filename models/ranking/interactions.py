"""A ranker learned from the interactions themselves, as papers on collaborative filtering train theirs: each pair of a
user and an item they took beside items they did not (He et al. 2017). It needs no retrieval model but for hard
negatives, and scores any item; cross features, which belong to candidates, it has none.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import metrics
from models.baselines import UserLog
from models.data.dataset import Dataset
from models.distributed import BatchLoss, own_rows, total
from models.hard_negatives import hardest, partly_hard
from models.hardware import CPU, Hardware, device_of, placed
from models.offline import Retrieval, moments, user_vectors
from models.options import TrainSection
from models.positives import Positives
from models.ranking.inputs import item_codes
from models.ranking.losses import list_loss
from models.ranking.pieces import Ranker
from models.ranking.samples import item_numbers
from models.ranking.train import RankerRun, fit_model, ranker_inputs, start_from_mean
from models.run_log import RunLog
from models.sampling import Proposal, negatives
from models.targets import Mode, Targets, Window, window_targets

STAGE = "ranker"
VALIDATED = 1000  # users at most
K = 10
POOL = 200  # items that hard negatives are drawn from


@dataclass(frozen=True, slots=True)
class Sides:
    """The features of all users and items as known at one moment: user_* [U, ...], item_* [N, ...]."""

    user_categorical: Tensor
    user_numeric: Tensor
    item_categorical: Tensor
    item_numeric: Tensor

    @classmethod
    def at(cls, dataset: Dataset, now_ms: int) -> "Sides":
        users = [who.features(dataset.schema) for who in moments(dataset, range(dataset.num_users), now_ms)]
        return cls(
            torch.from_numpy(np.stack([user.categorical for user in users])),
            torch.from_numpy(np.stack([user.numeric for user in users])),
            item_codes(dataset),
            torch.from_numpy(item_numbers(dataset, dataset.interactions.before(now_ms), now_ms)),
        )

    def of_users(self, users: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.user_categorical[users].to(device), self.user_numeric[users].to(device)

    def of_items(self, items: Tensor | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.item_categorical[items].to(device), self.item_numeric[items].to(device)


def fit_interactions(
    dataset: Dataset,
    until_ms: int,
    validation: Window,
    options: TrainSection,
    log: RunLog,
    path: Path,
    key: str,
    retrieval: Retrieval | None = None,
    hardware: Hardware = CPU,
) -> tuple[Ranker, float]:
    """The ranker with its best weights, in evaluation mode, and its NDCG@10 on new items of the validation window,
    among the whole catalogue.

    until_ms: what came before is learned from.  path, key: of the checkpoint, see TrainingState.  retrieval: as of
    until_ms, where options.ranker.hard_share asks for its negatives; ValueError without it.
    """
    ranker = options.ranker
    sides, targets = Sides.at(dataset, until_ms), window_targets(dataset, validation, "new")
    if not len(targets):
        raise ValueError(f"nobody known before the window {validation.name!r} took a new item in it; use more data")
    share = 1.0 / (1 + ranker.negatives)
    model, best = fit_model(
        ranker_inputs(dataset, candidates=False),
        ranker,
        lambda model: start_from_mean(model, share, ranker),
        lambda model: InteractionTask(model, dataset, sides, until_ms, targets, options, retrieval),
        RankerRun(STAGE, key, options.seed, path, hardware),
        log,
    )
    log.finish(STAGE, f"validation NDCG@10 {best:.4f} among all items")
    return model, best


class InteractionTask:
    """Each distinct pair once an epoch, with `options.ranker.negatives` fresh negatives, none of the user's items.

    They are uniform but for `hard_share` of them, which are from the user's POOL best by the retrieval model. What a
    softmax must subtract from the logits of negatives for how they were drawn is one constant where all are uniform,
    and is left out; hard ones among them have the weights of `partly_hard`. The other losses take them as they are.
    """

    validations_per_epoch = 1

    def __init__(
        self,
        model: Ranker,
        dataset: Dataset,
        sides: Sides,
        until_ms: int,
        targets: Targets,
        options: TrainSection,
        retrieval: Retrieval | None = None,
    ) -> None:
        self._model, self._sides, self._options = model, sides, options
        past = dataset.interactions.before(until_ms)
        users, items = past.user_index.astype(np.int64), past.item_index.astype(np.int64)
        self._positives = Positives.of(users, items, dataset.num_users, dataset.num_items)
        self._users, self._items = self._positives.pairs()
        self._proposal = Proposal.of_popularity(np.zeros(dataset.num_items), 0.0)
        share = options.ranker.hard_share
        self._num_hard = max(1, round(share * options.ranker.negatives)) if share else 0
        if self._num_hard:
            if retrieval is None:
                raise ValueError("hard_share above 0 draws negatives by a retrieval model: give the trained one")
            whos = moments(dataset, range(dataset.num_users), until_ms)
            self._vectors = user_vectors(dataset.schema, retrieval, whos), retrieval.item_vectors
        rows = np.unique(np.linspace(0, len(targets) - 1, min(VALIDATED, len(targets))).astype(np.int64))
        rows = rows[own_rows(len(rows))]
        self._asked = targets.users[rows]
        self._wanted = [targets.items[targets.offsets[row] : targets.offsets[row + 1]] for row in rows]
        self._system = Everything(model, sides, UserLog.of(dataset), until_ms)
        self.num_batches = -(-len(self._users) // options.ranker.batch_size)

    def loss(self, epoch: int, number: int) -> BatchLoss:
        rng = np.random.default_rng([self._options.seed, 1, epoch, number])
        size, count = self._options.ranker.batch_size, self._options.ranker.negatives
        order = np.random.default_rng([self._options.seed, epoch]).permutation(len(self._users))
        rows = order[number * size : (number + 1) * size]
        drawn, weights = self._negatives(self._users[rows], rng)
        own = own_rows(len(rows))
        rows, drawn = rows[own], drawn[own]
        if not len(rows):
            return BatchLoss(torch.zeros(()), 0)
        items = torch.from_numpy(np.concatenate([self._items[rows, None], drawn], 1).ravel())  # [b * (1 + count)]
        model, device = self._model, device_of(self._model)
        row_user = torch.arange(len(rows), device=device).repeat_interleave(1 + count)
        user = model.user_module(*self._sides.of_users(torch.from_numpy(self._users[rows]), device))
        part = model.item_part(*self._sides.of_items(items, device))
        scores = model.head_module(user, part, torch.zeros(len(items), 0, device=device), row_user)
        labels = torch.zeros(len(rows), 1 + count, device=device)
        labels[:, 0] = 1.0
        told = None if weights is None else placed(weights[own].ravel(), device).float()
        return BatchLoss(list_loss(self._options.ranker.loss, scores, labels.ravel(), row_user, told), len(rows))

    def _negatives(
        self, users: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Items int64 [b, count], and the weights that the loss gives to the rows of the lists, [b, 1 + count]."""
        ranker = self._options.ranker
        if not self._num_hard:
            return negatives(users, ranker.negatives, self._proposal, self._positives, rng), None
        of_users, of_items = self._vectors
        pool = hardest(users, of_users[users], of_items, self._positives, POOL)
        drawn = partly_hard(users, ranker.negatives, self._num_hard, pool, self._proposal, self._positives, rng)
        if ranker.loss != "softmax":
            return drawn.items, None
        return drawn.items, np.concatenate([np.ones((len(users), 1)), drawn.weights], 1)  # the positive's first

    def validate(self) -> float:
        lists = self._system(self._asked, "new", K)
        hits = np.zeros((len(lists), K), np.bool_)
        for row, (found, wanted) in enumerate(zip(lists, self._wanted, strict=True)):
            hits[row] = np.isin(found, wanted)
        values = metrics.ndcg(hits, np.array([len(wanted) for wanted in self._wanted], np.int64), K)
        summed, users = total(np.array([values.sum(), len(values)])).tolist()
        return float(summed / users)


@dataclass(frozen=True, slots=True)
class Everything:
    """A system that scores the whole catalogue for every user.

    split_ms: what a user took before is left out in mode `new`.
    """

    model: Ranker
    sides: Sides
    log: UserLog
    split_ms: int

    def __call__(self, users: NDArray[np.int64], mode: Mode, k: int) -> NDArray[np.int64]:
        """Lists int64 [U, k], padded with -1."""
        sides, device = self.sides, device_of(self.model)
        num_items = sides.item_categorical.shape[0]
        lists = np.full((len(users), k), -1, np.int64)
        self.model.eval()
        with torch.inference_mode():
            part = self.model.item_part(*sides.of_items(slice(None), device))
            rows = self.model.user_module(*sides.of_users(torch.from_numpy(users), device))
            cross = torch.zeros(num_items, 0, device=device)
            own = torch.zeros(num_items, dtype=torch.int64, device=device)
            for row, user in enumerate(users.tolist()):
                scores = self.model.head_module(rows[row : row + 1], part, cross, own)
                if mode == "new":
                    scores[placed(self.log.history(user, self.split_ms).items, device)] = -torch.inf
                best = scores.topk(min(k, num_items))
                items = best.indices[torch.isfinite(best.values)].cpu().numpy()
                lists[row, : len(items)] = items
        return lists
