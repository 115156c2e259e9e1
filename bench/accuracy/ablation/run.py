"""One data set's ablation: the ranker is trained again without each group of features and with other negatives.

Retrieval is trained once, so that all variants rank the same candidates of the same users of the test window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.accuracy.ablation.variants import VARIANTS, Variant, masked, without_candidates, without_items
from models import metrics
from models.bootstrap import mean_interval, paired_interval
from models.contract.features import cross_names
from models.data.dataset import Dataset
from models.options import TrainSection
from models.ranking.lists import predict
from models.ranking.samples import LabelWindow, RankerSamples, ranker_samples
from models.ranking.train import fit_ranker
from models.retrieval.snapshot import snapshot
from models.run_log import RunLog
from models.stage_files import training_key
from models.trained import first_retrieval_at, load_trained
from models.windows import ranker_windows

RETRIEVAL_ORDER = "the retrieval order"
K = 10


def ablation(
    dataset: Dataset, options: TrainSection, folder: Path, log: RunLog, variants: Sequence[Variant] = VARIANTS
) -> Iterator[list[dict[str, Any]]]:
    """NDCG@10 on the test window of every variant by mode, and what it loses against the first, paired by user; at last
    of the retrieval order.

    folder: of a finished training with these options; what the variants need is kept in <folder>/ablation.
    """
    lists = _Lists(dataset, options, folder, log)
    test = lists.test()
    column = cross_names(dataset.schema).index("retrieval_z")
    base: dict[str, NDArray[np.float64]] = {}
    for variant in variants:
        values = _per_user(test, _scores(lists, variant, test, log))
        base = base or values
        yield _entries(variant.name, values, base)
    yield _entries(RETRIEVAL_ORDER, _per_user(test, test.cross[:, column]), base)


class _Lists:
    """Candidate lists of the windows, made once for each number of sampled items."""

    def __init__(self, dataset: Dataset, options: TrainSection, folder: Path, log: RunLog) -> None:
        self.dataset, self.options, self.folder, self._log = dataset, options, folder, log
        self._made: dict[int, RankerSamples] = {}
        self.valid = self._samples([(dataset.splits.valid_start_ms, dataset.splits.test_start_ms)], "validation", 0)

    def train(self, variant: Variant) -> RankerSamples:
        found = self._train(variant.sampled)
        return found if variant.candidates else without_candidates(found, self._train(0))

    def test(self) -> RankerSamples:
        """Without a context, as a caller who sends none."""
        dataset, start = self.dataset, self.dataset.splits.test_start_ms
        model = load_trained(dataset, self.options, self.folder, for_test=True).retrieval
        window = LabelWindow(start, dataset.splits.end_ms, snapshot(dataset, model, start))
        found = ranker_samples(dataset, [window], 0, self.options.seed, self._log, "test lists")
        categories = found.user_categorical.copy()
        categories[:, categories.shape[1] - len(dataset.schema.context_features) :] = 0
        return replace(found, user_categorical=categories)

    def _train(self, sampled: int) -> RankerSamples:
        if sampled not in self._made:
            windows = ranker_windows(self.dataset, self.options)
            self._made[sampled] = self._samples(windows, f"lists, {sampled} sampled", sampled)
        return self._made[sampled]

    def _samples(self, windows: list[tuple[int, int]], stage: str, sampled: int) -> RankerSamples:
        found = first_retrieval_at(self.dataset, self.options, self.folder, [start for start, _ in windows])
        label_windows = [LabelWindow(*window, retrieval) for window, retrieval in zip(windows, found, strict=True)]
        return ranker_samples(self.dataset, label_windows, sampled, self.options.seed, self._log, stage)


def _scores(lists: _Lists, variant: Variant, test: RankerSamples, log: RunLog) -> NDArray[np.float32]:
    """Logits of the test lists by a ranker trained as the variant says; remembered for an interrupted run."""
    folder = lists.folder / "ablation"
    folder.mkdir(exist_ok=True)
    key = sha256(f"{training_key(lists.dataset, lists.options)}{orjson.dumps(asdict(variant))!r}".encode()).hexdigest()
    done = folder / f"{key[:16]}.npy"
    if done.exists():
        found: NDArray[np.float32] = np.load(done, allow_pickle=False)
        return found
    dataset = without_items(lists.dataset, variant)
    train, valid = (masked(one, lists.dataset, variant) for one in (lists.train(variant), lists.valid))
    path = folder / f"{key[:16]}.checkpoint.npz"
    model = fit_ranker(dataset, train, valid, lists.options, log, path, key).model
    found = predict(model, dataset, masked(test, lists.dataset, variant))
    np.save(done, found)
    path.unlink(missing_ok=True)
    return found


def _per_user(test: RankerSamples, scores: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """NDCG@10 by mode, float64 [U] each, of users with a target; mode new alone where nothing was repeated."""
    hits = np.zeros((len(test), K), np.bool_)
    for number in range(len(test)):
        rows = slice(test.offsets[number], test.offsets[number + 1])
        top = np.argsort(-scores[rows], kind="stable")[:K]
        hits[number, : len(top)] = test.labels[rows][top] > 0
    values = metrics.ndcg(hits, test.num_targets, K)
    of = {mode: (test.num_targets > 0) & (test.include_seen == seen) for mode, seen in (("new", False), ("all", True))}
    repeats = test.num_targets[test.include_seen].sum() > test.num_targets[~test.include_seen].sum()
    return {mode: values[counted] for mode, counted in of.items() if repeats or mode == "new"}


def _entries(
    name: str, values: dict[str, NDArray[np.float64]], base: dict[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    return [
        {
            "variant": name,
            "mode": mode,
            "ndcg@10": asdict(mean_interval(of_users, seed=0)),
            "change": None if values is base else asdict(paired_interval(of_users, base[mode], seed=0).relative),
        }
        for mode, of_users in values.items()
    ]
