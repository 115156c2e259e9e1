"""A ranker made smaller on the candidate lists that it learned from: pruned, or replaced by a student."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models import checkpoint
from models.compress.inherit import TERMS, inherit, inherits
from models.compress.magnitude import Pruning
from models.compress.options import CompressSection
from models.compress.soft import Taught
from models.compress.teacher import Teacher
from models.compress.units import Arrays, cut, most_important, norms, ranker_layers, sizes_after, taylor
from models.contract.features import cross_names
from models.data.dataset import Dataset
from models.distributed import BatchLoss
from models.options import TrainSection
from models.ranker_lists import RankerLists
from models.ranking.build import build
from models.ranking.lists import ListTask, list_ndcg, predict
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.ranking.train import RankerRun, Task, fit_ranker, fit_task, ranker_inputs
from models.run_log import RunLog

LOOKED_AT = 32  # batches that importance is measured on


class Smaller(NamedTuple):
    """Weights, and their NDCG@10 on the validation lists."""

    arrays: Arrays
    figure: float


@dataclass(frozen=True, slots=True)
class RankerWork:
    """What every way of it needs.  run: its stage, key and checkpoint."""

    dataset: Dataset
    lists: RankerLists
    section: CompressSection
    run: RankerRun
    log: RunLog

    def student(
        self, options: TrainSection, taught: Taught | None = None, begin: Callable[[Ranker], None] | None = None
    ) -> Smaller:
        """A new model; by its own labels alone where nobody teaches it.  begin: see `fit_ranker`."""
        run = self.run
        fitted = fit_ranker(
            self.dataset, *self.lists, options, self.log, run.checkpoint, run.key, run.hardware, taught, begin
        )
        return Smaller(checkpoint.weights(fitted.model), fitted.validation)

    def inheritance(self, student: RankerOptions, teacher: Teacher) -> Callable[[Ranker], None] | None:
        """What gives the student the teacher's weights; None where it has parts that the teacher has not. Its hidden
        units are those with which the teacher, cut down, validates best."""
        options = teacher.options
        if not inherits(student, options.ranker):
            return None
        shape, arrays = options.ranker, checkpoint.weights(teacher.ranker())
        if "perceptron" in TERMS[student.model] and student.hidden != shape.hidden:
            shape = shape.model_copy(update={"hidden": student.hidden})
            arrays = self._cut(options, arrays, shape)
        return partial(inherit, teacher=self._model(shape, arrays))

    def without_units(self, options: TrainSection, arrays: Arrays, taught: Taught) -> Smaller:
        """options, arrays: of the model to be pruned. A finished round is kept until the last one is."""
        ranker, section = options.ranker, self.section
        figure, paths = -np.inf, []
        for number in range(1, section.rounds + 1):
            left = (1.0 - section.prune_units) ** (number / section.rounds)
            shape = ranker.model_copy(update={"hidden": sizes_after(ranker.hidden, 1.0 - left)})
            path = self.run.checkpoint.with_suffix(f".round{number}.npz")
            found = _kept(path, self.run.key)
            if found is None:
                model = self._model(shape, self._cut(options, arrays, shape))
                found = self._fine_tuned(model, options.model_copy(update={"ranker": shape}), taught, number)
                checkpoint.save(path, found.arrays, {"key": self.run.key, "figure": found.figure})
            arrays, figure = found
            options = options.model_copy(update={"ranker": shape})
            paths.append(path)
        for path in paths:
            path.unlink()
        return Smaller(arrays, figure)

    def with_zeros(self, options: TrainSection, arrays: Arrays) -> Smaller:
        """The same shape, a share of the layers' weights zero."""
        model = self._model(options.ranker, arrays)
        gentle = _gentle(options.ranker, self.section)
        inner = ListTask(model, self.dataset, *self.lists, gentle, options.seed)
        task = PrunedTask(inner, model, self.section.prune_weights)
        figure = fit_task(model, task, gentle, self.run, self.log)
        task.pruning.finish()
        self.log.finish(self.run.stage, f"validation NDCG@10 {figure:.4f}")
        return Smaller(checkpoint.weights(model), figure)

    def retrieval_figure(self) -> float:
        """NDCG@10 of the validation lists in the order of the retrieval score."""
        column = cross_names(self.dataset.schema).index("retrieval_z")
        return list_ndcg(self.lists.valid, self.lists.valid.cross[:, column])

    def _cut(self, options: TrainSection, arrays: Arrays, shape: RankerOptions) -> Arrays:
        """The weights of the smaller shape, before fine-tuning."""
        stage, ranker = f"{self.run.stage} importance", options.ranker
        model = self._model(ranker, arrays)
        layers = ranker_layers(model, ranker.model)
        names = ["taylor", "norm"] if self.section.importance == "validation" else [self.section.importance]
        found: dict[str, tuple[float, Arrays]] = {}
        for name in names:
            values = norms(arrays, layers) if name == "norm" else taylor(model, layers, self._losses(model, options))
            smaller = cut(arrays, layers, most_important(values, shape.hidden))
            found[name] = self._figure(self._model(shape, smaller)), smaller
        if "taylor" not in found:
            self.log.start(stage, 1, 1)
        best = max(found, key=lambda name: found[name][0])
        told = ", ".join(f"{name} {figure:.4f}" for name, (figure, _) in found.items())
        self.log.finish(stage, f"NDCG@10 before fine-tuning: {told}")
        return found[best][1]

    def _losses(self, model: Ranker, options: TrainSection) -> Iterator[Tensor]:
        task = ListTask(model, self.dataset, *self.lists, options.ranker, options.seed)
        count, stage = min(LOOKED_AT, task.num_batches), f"{self.run.stage} importance"
        self.log.start(stage, count)
        for number in range(count):
            yield task.loss(0, number).mean
            self.log.step(stage, number + 1, {})

    def _fine_tuned(self, model: Ranker, options: TrainSection, taught: Taught, number: int) -> Smaller:
        """The weights after fine-tuning; what the smaller shape had before says only how far it came."""
        before = self._figure(model)
        gentle = _gentle(options.ranker, self.section)
        task = ListTask(model, self.dataset, *self.lists, gentle, options.seed, taught)
        run = replace(self.run, key=f"{self.run.key}:{number}")
        after = fit_task(model, task, gentle, run, self.log)
        run.checkpoint.unlink(missing_ok=True)
        self.log.finish(run.stage, f"validation NDCG@10 {before:.4f}, fine-tuned {after:.4f}")
        return Smaller(checkpoint.weights(model), after)

    def _figure(self, model: Ranker) -> float:
        return list_ndcg(self.lists.valid, predict(model, self.dataset, self.lists.valid))

    def _model(self, options: RankerOptions, arrays: Arrays) -> Ranker:
        model = build(ranker_inputs(self.dataset), options)
        checkpoint.set_weights(model, arrays)
        return model.eval()


class PrunedTask:
    """A ranker's task while its smallest weights go; all of them have gone by the first validation."""

    def __init__(self, inner: Task, model: Ranker, share: float) -> None:
        self._inner = inner
        self.num_batches, self.validations_per_epoch = inner.num_batches, inner.validations_per_epoch
        self.pruning = Pruning(model, share, max(1, inner.num_batches // inner.validations_per_epoch))

    def loss(self, epoch: int, number: int) -> BatchLoss:
        self.pruning.at(epoch * self.num_batches + number)
        return self._inner.loss(epoch, number)

    def validate(self) -> float:
        self.pruning.now()
        return self._inner.validate()


def teachings(teacher: Ranker, dataset: Dataset, lists: RankerLists, log: RunLog) -> NDArray[np.float32]:
    """The teacher's logits of the training rows, float32 [n]."""
    stage = "teacher's scores"
    log.start(stage, 1)
    logits = predict(teacher, dataset, lists.train)
    log.finish(stage, f"{len(logits):,} rows")
    return logits


def _gentle(options: RankerOptions, section: CompressSection) -> RankerOptions:
    """For fine-tuning."""
    rate = options.learning_rate * section.rate_share
    return options.model_copy(update={"learning_rate": rate, "epochs": section.epochs})


def _kept(path: Path, key: str) -> Smaller | None:
    if not path.exists():
        return None
    arrays, header = checkpoint.load(path, {"key": str, "figure": float})
    return Smaller(arrays, header["figure"]) if header["key"] == key else None
