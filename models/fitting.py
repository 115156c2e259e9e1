"""Step-by-step training that repeats exactly from its seed, stops early, and resumes where it was interrupted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.autograd.profiler import record_function
from torch.nn.utils import clip_grad_norm_

from models.distributed import BatchLoss, SharedStep, is_first, shared, world
from models.figures import figures_of
from models.hardware import CPU, Hardware
from models.options import GradientOptions
from models.retrieval.model import RetrievalModel
from models.run_log import FIGURES_EVERY, RunLog
from models.training_state import TrainingState, seed_step

SAVE_EVERY = 100
WARM_UP = 100
MAX_GRADIENT = 5.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What one run is to do.  key: names its data and settings; a checkpoint with another key is not resumed.

    until_ms: only what happened before is learned from.  budget: share of the options' max_steps.  checkpoint: the
    file to go on from and to save to.  weights: to start from, None for a new model.  validate: figure to be
    maximised, None to run through all steps.  hardware: where it is calculated, no part of the key.
    """

    stage: str
    key: str
    seed: int
    until_ms: int
    checkpoint: Path
    budget: float = 1.0
    weights: dict[str, NDArray[Any]] | None = None
    validate: Callable[[RetrievalModel], float] | None = None
    hardware: Hardware = CPU


class Task(Protocol):
    """What a model learns from. Everything random in it comes from the numbers and the generator it is given."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        """The loss of one batch of one epoch, over this process's rows."""


class Plan(NamedTuple):
    """AdamW's steps. rate: share of the learning rate at a step, counted from 0.  every: steps from one validation to
    the next; there is one after the last step, too.  patience: validations without a gain before it stops.
    max_gradient: norm to which gradients are clipped, None for no limit.
    """

    steps: int
    every: int
    patience: int
    learning_rate: float
    weight_decay: float
    rate: Callable[[int], float]
    max_gradient: float | None = None


def fit_steps(model: RetrievalModel, task: Task, options: GradientOptions, run: Fit, log: RunLog) -> None:
    """Train the model in place; it ends in evaluation mode, with the weights that validated best.

    AdamW, linear warm-up, then linearly down to a fiftieth; gradients are clipped.
    """
    steps = min(int(run.budget * options.max_steps), options.max_epochs * task.num_batches)

    def loss(step: int) -> BatchLoss:
        return task.loss(*divmod(step, task.num_batches), np.random.default_rng([run.seed, 1, step]))

    def validate() -> float:
        assert run.validate is not None
        with torch.inference_mode():
            return run.validate(model)

    plan = Plan(
        steps,
        max(1, steps // options.validations),
        options.patience,
        options.learning_rate,
        options.weight_decay,
        lambda step: _rate(step, steps),
        MAX_GRADIENT,
    )
    state = run_steps(model, loss, validate if run.validate else None, plan, run, log)
    best = f", best validation {state.best:.4f}" if run.validate is not None else ""
    log.finish(run.stage, f"{state.step} steps{best}")


class Run(Protocol):
    """What `run_steps` has to know of a run: see `Fit`."""

    @property
    def stage(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def checkpoint(self) -> Path: ...

    @property
    def hardware(self) -> Hardware: ...


def run_steps(
    model: nn.Module,
    loss: Callable[[int], BatchLoss],
    validate: Callable[[], float] | None,
    plan: Plan,
    run: Run,
    log: RunLog,
) -> TrainingState:
    """Train the model in place, resuming what was interrupted; it ends in evaluation mode, with its best weights.

    loss: of a step.  validate: figure to be maximised, of the model in evaluation mode; None to run through all steps.
    Several processes share each step's batch and have the same figures. The model learns and is validated on the run's
    device, validated in float32 as it will serve, and ends on the CPU.
    """
    model.to(run.hardware.device)
    optimizer = torch.optim.AdamW(model.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
    state = TrainingState(run.checkpoint, run.key, model, optimizer)
    state.resume()
    take = shared(SharedStep(model, loss))
    log.start(run.stage, plan.steps, state.step)
    while state.step < plan.steps and state.since_best < plan.patience:
        seed_step(run.seed, state.step, world().rank)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * plan.rate(state.step)
        model.train()
        with record_function("loss"), run.hardware.mixed():
            backward_from, mean = take(state.step)
        optimizer.zero_grad(set_to_none=True)
        with record_function("backward"):
            backward_from.backward()
        limit = plan.max_gradient
        norm = None if limit is None else clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        state.step += 1
        figures = {"loss": mean}
        if state.step % FIGURES_EVERY == 0:
            figures |= figures_of(model, optimizer, norm)
        if validate is not None and (state.step % plan.every == 0 or state.step == plan.steps):
            model.eval()
            with record_function("validation"):
                figures["validation"] = validate()
            state.judge(figures["validation"])
        log.step(run.stage, state.step, figures)
        if is_first() and state.step % SAVE_EVERY == 0:
            state.save()
    state.restore_best()
    model.to("cpu").eval()
    return state


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / min(WARM_UP, 1 + steps // 10))
    return warm * max(0.02, 1.0 - step / steps)
