"""Training of a ranker, the same steps for every model, and on candidate lists."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from models.compress.soft import Taught
from models.contract.features import cross_names, user_numeric_names
from models.contract.schema import MultiFeature
from models.data.dataset import Dataset
from models.distributed import BatchLoss, total
from models.fitting import Plan, run_steps
from models.hardware import CPU, Hardware
from models.item_stats import NAMES
from models.options import TrainSection
from models.ranking.build import build
from models.ranking.deep import Mlp
from models.ranking.embedding import half_squares
from models.ranking.fnn import start_from_fm
from models.ranking.inputs import MultiField, RankerInputs, item_codes
from models.ranking.lists import ListTask, list_ndcg
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.ranking.samples import RankerSamples
from models.run_log import RunLog

FM_SHARE = 1 / 3  # of the epochs, for the factorisation machine that FNN starts from


@dataclass(frozen=True, slots=True)
class RankerFit:
    """validation: NDCG@10 of the validation lists as ranked, and in the order of the retrieval score."""

    model: Ranker
    validation: float
    validation_retrieval: float


@dataclass(frozen=True, slots=True)
class RankerRun:
    """stage: as it is reported.  key, checkpoint: see TrainingState.  hardware: where it is calculated."""

    stage: str
    key: str
    seed: int
    checkpoint: Path
    hardware: Hardware = CPU


class Task(Protocol):
    """What a ranker learns from."""

    validations_per_epoch: int
    num_batches: int

    def loss(self, epoch: int, number: int) -> BatchLoss:
        """The loss of one batch of one epoch, over this process's rows."""

    def validate(self) -> float:
        """The figure to be maximised, of the model in evaluation mode."""


def build_ranker(dataset: Dataset, options: TrainSection) -> Ranker:
    torch.manual_seed(options.seed)
    return build(ranker_inputs(dataset, candidates=options.ranker.learn_from == "candidates"), options.ranker)


def ranker_inputs(dataset: Dataset, *, candidates: bool = True) -> RankerInputs:
    """candidates: False for a ranker that learns from pairs of users and items, which have no cross features."""
    schema = dataset.schema
    return RankerInputs(
        user_sizes={feature.name: feature.size for feature in [*schema.categorical("user"), *schema.context_features]},
        user_numeric=len(user_numeric_names(schema)),
        item_sizes={feature.name: feature.size for feature in schema.categorical("item")},
        item_numeric=len(schema.numeric("item")) + len(NAMES),
        cross=len(cross_names(schema)) if candidates else 0,
        catalogue=item_codes(dataset) if candidates else None,
        item_multi={
            feature.name: MultiField(feature.size, feature.length) for feature in schema.of_items(MultiFeature)
        },
    )


def fit_ranker(
    dataset: Dataset,
    train: RankerSamples,
    valid: RankerSamples,
    options: TrainSection,
    log: RunLog,
    path: Path,
    key: str,
    hardware: Hardware = CPU,
    taught: Taught | None = None,
    begin: Callable[[Ranker], None] | None = None,
) -> RankerFit:
    """The ranker with its best weights, in evaluation mode.

    taught: what a teacher says of the training rows.  begin: gives the untrained model its weights; without it the
    model begins with the mean of the labels and the order of retrieval.
    path, key: of the checkpoint, see TrainingState. The samples must be those that the checkpoint was made with.
    """
    column = cross_names(dataset.schema).index("retrieval_z")
    ranker, seed = options.ranker, options.seed

    def start(model: Ranker) -> None:
        positives, count = total(np.array([train.labels.sum(), len(train.labels)], np.float64)).tolist()
        start_from_mean(model, positives / count, ranker)
        start_from_retrieval(model, column)

    model, best = fit_model(
        ranker_inputs(dataset),
        ranker,
        begin or start,
        lambda model: ListTask(model, dataset, train, valid, ranker, seed, taught),
        RankerRun("ranker", key, seed, path, hardware),
        log,
    )
    retrieval = list_ndcg(valid, valid.cross[:, column])
    log.finish("ranker", f"validation NDCG@10 {best:.4f}, by retrieval score {retrieval:.4f}")
    return RankerFit(model, best, retrieval)


def fit_model(
    inputs: RankerInputs,
    options: RankerOptions,
    start: Callable[[Ranker], None],
    make_task: Callable[[Ranker], Task],
    run: RankerRun,
    log: RunLog,
) -> tuple[Ranker, float]:
    """A new model with the weights that validated best, in evaluation mode, and its best figure.

    start: prepares an untrained model.
    """
    torch.manual_seed(run.seed)
    model = build(inputs, options)
    start(model)
    before = replace(run, stage=f"{run.stage} fm", checkpoint=run.checkpoint.with_suffix(".fm.npz"))
    if options.model == "fnn":
        epochs = max(1, round(FM_SHARE * options.epochs))
        simpler = options.model_copy(update={"model": "fm", "epochs": epochs})
        machine, figure = fit_model(inputs, simpler, start, make_task, before, log)
        log.finish(before.stage, f"best validation {figure:.4f}")
        start_from_fm(model, machine)
    best = fit_task(model, make_task(model), options, run, log)
    before.checkpoint.unlink(missing_ok=True)
    return model, best


@torch.no_grad()
def start_from_mean(model: Ranker, mean_label: float, options: RankerOptions) -> None:
    """Let the untrained ranker give the labels' mean."""
    share = min(max(mean_label, 1e-4), 1 - 1e-4)
    model.head_module.bias.fill_(mean_label if options.loss == "squared" else float(np.log(share / (1 - share))))


@torch.no_grad()
def start_from_retrieval(model: Ranker, column: int) -> None:
    """Let the untrained ranker keep the retrieval order: it then has to learn only where that order is wrong.

    column: of the standardised retrieval score among the cross features.
    """
    for module in model.head_module.modules():
        if isinstance(module, Mlp):
            module.out.weight.mul_(0.1)
    model.head_module.cross_weight[column] = 0.5


def fit_task(model: Ranker, task: Task, options: RankerOptions, run: RankerRun, log: RunLog) -> float:
    """Train in place: AdamW, its rate falling linearly to a fiftieth."""
    steps = options.epochs * task.num_batches

    def loss(step: int) -> BatchLoss:
        found = task.loss(*divmod(step, task.num_batches))
        if not options.embedding_l2:
            return found
        return BatchLoss(found.mean + options.embedding_l2 * half_squares(model), found.weight)

    plan = Plan(
        steps,
        max(1, task.num_batches // task.validations_per_epoch),
        options.patience,
        options.learning_rate,
        options.weight_decay,
        lambda step: max(0.02, 1.0 - (step + 1) / steps),
    )
    return float(run_steps(model, loss, task.validate, plan, run, log).best)
