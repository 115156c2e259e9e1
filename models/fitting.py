"""Step-by-step training that repeats exactly from its seed, stops early, and resumes where it was interrupted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from models.options import GradientOptions
from models.retrieval.model import RetrievalModel
from models.run_log import RunLog
from models.training_state import TrainingState, seed_step

SAVE_EVERY = 100
WARM_UP = 100
MAX_GRADIENT = 5.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What one run is to do.  key: names its data and settings; a checkpoint with another key is not resumed.

    until_ms: only what happened before is learned from.  budget: share of the options' max_steps.  checkpoint: the
    file to go on from and to save to.  weights: to start from, None for a new model.  validate: figure to be
    maximised, None to run through all steps.
    """

    stage: str
    key: str
    seed: int
    until_ms: int
    checkpoint: Path
    budget: float = 1.0
    weights: dict[str, NDArray[Any]] | None = None
    validate: Callable[[RetrievalModel], float] | None = None


class Task(Protocol):
    """What a model learns from. Everything random in it comes from the numbers and the generator it is given."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> Tensor:
        """The loss of one batch of one epoch."""


def fit_steps(model: RetrievalModel, task: Task, options: GradientOptions, run: Fit, log: RunLog) -> None:
    """Train the model in place; it ends in evaluation mode, with the weights that validated best.

    AdamW, linear warm-up, then linearly down to a fiftieth; gradients are clipped.
    """
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    steps = min(int(run.budget * options.max_steps), options.max_epochs * task.num_batches)
    every = max(1, steps // options.validations)
    state = TrainingState(run.checkpoint, run.key, model, optimizer)
    state.resume()
    log.start(run.stage, steps, state.step)
    while state.step < steps and state.since_best < options.patience:
        epoch, number = divmod(state.step, task.num_batches)
        seed_step(run.seed, state.step)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _rate(state.step, steps)
        model.train()
        loss = task.loss(epoch, number, np.random.default_rng([run.seed, 1, state.step]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(model.parameters(), MAX_GRADIENT)
        optimizer.step()
        state.step += 1
        figures = {"loss": float(loss.detach())}
        if run.validate is not None and state.step % every == 0:
            model.eval()
            with torch.inference_mode():
                figures["validation"] = run.validate(model)
            state.judge(figures["validation"])
        log.step(run.stage, state.step, figures)
        if state.step % SAVE_EVERY == 0:
            state.save()
    state.restore_best()
    model.eval()
    best = f", best validation {state.best:.4f}" if run.validate is not None else ""
    log.finish(run.stage, f"{state.step} steps{best}")


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / min(WARM_UP, 1 + steps // 10))
    return warm * max(0.02, 1.0 - step / steps)
