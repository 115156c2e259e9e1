"""Training of the ranker on candidate lists: log-loss, early stopping on the order of the validation lists."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models import metrics
from models.contract.features import cross_names, user_numeric_names
from models.data.dataset import Dataset
from models.item_stats import NAMES
from models.options import TrainSection
from models.ranking.deepfm import DeepFm, DeepFmConfig, RankerInputs
from models.ranking.samples import RankerSamples
from models.run_log import RunLog
from models.training_state import TrainingState, seed_step

VALIDATIONS_PER_EPOCH = 2
SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class RankerFit:
    """validation: NDCG@10 of the validation lists as ranked, and in the order of the retrieval score."""

    model: DeepFm
    validation: float
    validation_retrieval: float


def build_ranker(dataset: Dataset, options: TrainSection) -> DeepFm:
    schema = dataset.schema
    inputs = RankerInputs(
        user_sizes=[feature.size for feature in [*schema.categorical("user"), *schema.context_features]],
        user_numeric=len(user_numeric_names(schema)),
        item_sizes=[feature.size for feature in schema.categorical("item")],
        item_numeric=len(schema.numeric("item")) + len(NAMES),
        cross=len(cross_names(schema)),
    )
    torch.manual_seed(options.seed)
    return DeepFm(inputs, DeepFmConfig(options.ranker.dim, tuple(options.ranker.hidden), options.ranker.dropout))


def fit_ranker(
    dataset: Dataset,
    train: RankerSamples,
    valid: RankerSamples,
    options: TrainSection,
    log: RunLog,
    path: Path,
    key: str,
) -> RankerFit:
    """The ranker with its best weights, in evaluation mode.

    path, key: of the checkpoint, see TrainingState. The samples must be those that the checkpoint was made with.
    """
    model = build_ranker(dataset, options)
    start_from_retrieval(model, cross_names(dataset.schema), float(train.labels.mean()))
    categories = torch.from_numpy(np.array(dataset.item_categorical, np.int64))
    optimizer = torch.optim.AdamW(
        model.parameters(), options.ranker.learning_rate, weight_decay=options.ranker.weight_decay
    )
    state = TrainingState(path, key, model, optimizer)
    state.resume()
    per_epoch = -(-len(train) // options.ranker.batch_size)
    steps = options.ranker.epochs * per_epoch
    every = max(1, per_epoch // VALIDATIONS_PER_EPOCH)
    log.start("ranker", steps, state.step)
    while state.step < steps and state.since_best < options.ranker.patience:
        lists = _batch(len(train), options, *divmod(state.step, per_epoch))
        seed_step(options.seed, state.step)
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = options.ranker.learning_rate * max(0.02, 1.0 - (state.step + 1) / steps)
        rows, row_list = _rows(train, lists)
        logits = _score(model, categories, train, lists, rows, row_list)
        loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(train.labels[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        state.step += 1
        figures = {"loss": float(loss.detach())}
        if state.step % every == 0 or state.step == steps:
            figures["validation"] = list_ndcg(valid, predict(model, dataset, valid))
            state.judge(figures["validation"])
        log.step("ranker", state.step, figures)
        if state.step % SAVE_EVERY == 0:
            state.save()
    state.restore_best()
    model.eval()
    retrieval = list_ndcg(valid, valid.cross[:, cross_names(dataset.schema).index("retrieval_z")])
    log.finish("ranker", f"validation NDCG@10 {state.best:.4f}, by retrieval score {retrieval:.4f}")
    return RankerFit(model, float(state.best), retrieval)


@torch.no_grad()
def start_from_retrieval(model: DeepFm, cross: list[str], positive_share: float) -> None:
    """Let the untrained ranker keep the retrieval order, at the share of positives that the samples have: it then
    has to learn only where that order is wrong."""
    share = min(max(positive_share, 1e-4), 1 - 1e-4)
    model.head_module.out.bias.fill_(float(np.log(share / (1 - share))))
    model.head_module.out.weight.mul_(0.1)
    model.head_module.cross.numeric_weight[cross.index("retrieval_z")] = 0.5


def predict(model: DeepFm, dataset: Dataset, samples: RankerSamples, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits of every row, float32 [n]."""
    model.eval()
    categories = torch.from_numpy(np.array(dataset.item_categorical, np.int64))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            lists = np.arange(start, min(start + batch_size, len(samples)))
            rows, row_list = _rows(samples, lists)
            parts.append(_score(model, categories, samples, lists, rows, row_list).numpy())
    return np.concatenate(parts)


def list_ndcg(samples: RankerSamples, scores: NDArray[np.float32], k: int = 10) -> float:
    """Mean NDCG@k over the lists that have a target, the two kinds of list (seen items or not) weighing alike."""
    hits = np.zeros((len(samples), k), np.bool_)
    for number in range(len(samples)):
        rows = slice(samples.offsets[number], samples.offsets[number + 1])
        top = np.argsort(-scores[rows], kind="stable")[:k]
        hits[number, : len(top)] = samples.labels[rows][top] > 0
    kinds = [(samples.num_targets > 0) & (samples.include_seen == kind) for kind in (True, False)]
    return float(
        np.mean([metrics.ndcg(hits[kind], samples.num_targets[kind], k).mean() for kind in kinds if kind.any()])
    )


def _batch(num_lists: int, options: TrainSection, epoch: int, number: int) -> NDArray[np.int64]:
    """The lists of one step: a slice of the epoch's own random order."""
    order = np.random.default_rng([options.seed, epoch]).permutation(num_lists)
    return order[number * options.ranker.batch_size : (number + 1) * options.ranker.batch_size]


def _rows(samples: RankerSamples, lists: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the lists, and for each row the position of its list among them."""
    sizes = samples.offsets[lists + 1] - samples.offsets[lists]
    row_list = np.repeat(np.arange(len(lists)), sizes)
    starts = np.repeat(samples.offsets[lists] - (np.cumsum(sizes) - sizes), sizes)
    return starts + np.arange(len(row_list)), row_list


def _score(
    model: DeepFm,
    categories: Tensor,
    samples: RankerSamples,
    lists: NDArray[np.int64],
    rows: NDArray[np.int64],
    row_list: NDArray[np.int64],
) -> Tensor:
    items = samples.items[rows]
    score: Tensor = model(
        torch.from_numpy(samples.user_categorical[lists]),
        torch.from_numpy(samples.user_numeric[lists]),
        categories[torch.from_numpy(items)],
        torch.from_numpy(samples.item_numeric[samples.window[lists][row_list], items]),
        torch.from_numpy(samples.cross[rows]),
        torch.from_numpy(row_list),
    )
    return score
