"""A SASRec made smaller: its feed-forward units pruned, its small weights set to zero, or a student in its place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models import checkpoint
from models.compress.magnitude import Pruning
from models.compress.options import CompressSection
from models.compress.units import Arrays, cut, feed_forward_layers, most_important, norms, sizes_after, taylor
from models.data.dataset import Dataset
from models.distributed import BatchLoss
from models.fitting import Fit, fit_steps
from models.options import SasRecOptions, TrainSection
from models.retrieval.model import RetrievalModel
from models.retrieval.sasrec import SasRec
from models.retrieval.sasrec_training import SasRecTask, TaughtItems, build, fit, make_task
from models.run_log import RunLog

LOOKED_AT = 16  # batches that importance is measured on


def sasrec_of(options: TrainSection) -> SasRecOptions:
    """Raises ValueError for another retrieval model."""
    if not isinstance(options.retrieval, SasRecOptions):
        raise ValueError(f'[train.retrieval] model = "{options.retrieval.model}" is not made smaller; only "sasrec" is')
    if options.content is not None:
        raise ValueError("[train.content] stands beside the retrieval model, which is made smaller only by itself")
    return options.retrieval


def without_units(options: SasRecOptions, share: float) -> SasRecOptions:
    """The options of the pruned model."""
    (units,) = sizes_after([options.feed_units or 2 * options.dim], share)
    return options.model_copy(update={"feed_units": units})


@dataclass(frozen=True, slots=True)
class SasRecWork:
    """Ways to learn one run of a SASRec.  before: options of the model that there was, and `arrays` its weights."""

    dataset: Dataset
    section: CompressSection
    log: RunLog
    before: SasRecOptions

    def prune(self, arrays: Arrays, after: SasRecOptions, run: Fit) -> SasRec:
        """Fewer units in each feed-forward, then fine-tuning; what validates best of the ways to choose them, and of
        before and after the fine-tuning."""
        figure = _figure(run)
        found = [build(self.dataset, after, run.until_ms, run.seed) for _ in self._importances()]
        for model, name in zip(found, self._importances(), strict=True):
            checkpoint.set_weights(model, self._cut(arrays, after, run, name))
        judged = [figure(model.eval()) for model in found]
        best = found[int(np.argmax(judged))]
        gentle = self._gentle(after)
        shorter = replace(run, weights=checkpoint.weights(best), budget=self.section.steps_share)
        tuned = fit(self.dataset, gentle, shorter, self.log)
        return tuned if figure(tuned) > max(judged) else best

    def zero(self, arrays: Arrays, run: Fit) -> SasRec:
        """The same shape, a share of the layers' weights zero, after fine-tuning."""
        gentle = self._gentle(self.before)
        model = build(self.dataset, gentle, run.until_ms, run.seed)
        checkpoint.set_weights(model, arrays)
        inner = make_task(self.dataset, model, gentle, run)
        shorter = replace(run, budget=min(run.budget, self.section.steps_share))
        steps = min(int(shorter.budget * gentle.max_steps), gentle.max_epochs * inner.num_batches)
        task = PrunedTask(inner, model, self.section.prune_weights, max(1, steps // gentle.validations))
        validate = None if run.validate is None else task.validated(run.validate)
        fit_steps(model, task, gentle, replace(shorter, validate=validate), self.log)
        task.pruning.finish()
        return model

    def teach(self, teacher: SasRec, student: SasRecOptions, run: Fit) -> SasRec:
        taught = TaughtItems(teacher, self.section.soft_weight, self.section.temperature)
        return fit(self.dataset, student, run, self.log, taught)

    def _importances(self) -> list[str]:
        return ["taylor", "norm"] if self.section.importance == "validation" else [self.section.importance]

    def _cut(self, arrays: Arrays, after: SasRecOptions, run: Fit, importance: str) -> Arrays:
        model = build(self.dataset, self.before, run.until_ms, run.seed)
        checkpoint.set_weights(model, arrays)
        layers = feed_forward_layers(model.eval())
        values = norms(arrays, layers) if importance == "norm" else taylor(model, layers, self._losses(model, run))
        assert after.feed_units is not None
        return cut(arrays, layers, most_important(values, [after.feed_units] * len(layers)))

    def _losses(self, model: SasRec, run: Fit) -> Iterator[Tensor]:
        task = make_task(self.dataset, model, self.before, run)
        count, stage = min(LOOKED_AT, task.num_batches), f"{run.stage} importance"
        self.log.start(stage, count)
        for number in range(count):
            yield task.loss(0, number, np.random.default_rng([run.seed, 2, number])).mean
            self.log.step(stage, number + 1, {})
        self.log.finish(stage, "")

    def _gentle(self, options: SasRecOptions) -> SasRecOptions:
        return options.model_copy(update={"learning_rate": options.learning_rate * self.section.rate_share})


class PrunedTask:
    """A retrieval model's task while its smallest weights go, all of them within `steps`."""

    def __init__(self, inner: SasRecTask, model: SasRec, share: float, steps: int) -> None:
        self._inner = inner
        self.num_batches = inner.num_batches
        self.pruning = Pruning(model, share, steps)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        self.pruning.at(epoch * self.num_batches + number)
        return self._inner.loss(epoch, number, rng)

    def validated(self, figure: Callable[[RetrievalModel], float]) -> Callable[[RetrievalModel], float]:
        """The figure of the model with its zeros."""

        def validate(model: RetrievalModel) -> float:
            self.pruning.now()
            return figure(model)

        return validate


def _figure(run: Fit) -> Callable[[RetrievalModel], float]:
    def figure(model: RetrievalModel) -> float:
        if run.validate is None:
            return 0.0
        with torch.inference_mode():
            return run.validate(model)

    return figure
