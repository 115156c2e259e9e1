"""A ranker learned from a ready-made labelled table: each row is one user, one item and what came of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.distributed import BatchLoss, gather, own_rows
from models.hardware import CPU, Hardware, device_of
from models.ranking.inputs import RankerInputs
from models.ranking.losses import list_loss
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.ranking.train import RankerRun, fit_model, start_from_mean
from models.run_log import RunLog
from models.score_metrics import auc

STAGE = "labelled ranker"
PREDICTED = 16_384  # rows at a time
MAX_LABEL = 1e15  # the sum of many squares is still a float32


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """n rows. Raises ValueError for parts of different lengths, and for a number that is not finite.

    user_categorical int64 [n, Fu], user_numeric float32 [n, Gu], item_categorical int64 [n, Ci], item_numeric float32
    [n, Gi], cross float32 [n, c], labels float32 [n].
    """

    user_categorical: NDArray[np.int64]
    user_numeric: NDArray[np.float32]
    item_categorical: NDArray[np.int64]
    item_numeric: NDArray[np.float32]
    cross: NDArray[np.float32]
    labels: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in self.__slots__:
            values = getattr(self, name)
            if len(values) != len(self.labels):
                raise ValueError(f"labelled rows: {name} has {len(values)} rows and labels has {len(self.labels)}")
            if not np.isfinite(values).all():
                raise ValueError(f"labelled rows: {name} has a value that is not finite; fill in or drop those rows")

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "LabelledRows":
        """The chosen rows, by a mask or by their numbers."""
        return LabelledRows(*(getattr(self, name)[chosen] for name in self.__slots__))


def fit_labelled(
    inputs: RankerInputs,
    train: LabelledRows,
    valid: LabelledRows,
    options: RankerOptions,
    seed: int,
    log: RunLog,
    checkpoint: Path,
    key: str,
    hardware: Hardware = CPU,
) -> tuple[Ranker, float]:
    """The ranker with its best weights, in evaluation mode, and its best figure on the validation rows: AUC, or the
    root of the mean squared error with loss = "squared".

    checkpoint, key: see TrainingState. Raises ValueError for rows that do not fit the inputs or the loss.
    """
    squared = options.loss == "squared"
    for part, rows in (("training", train), ("validation", valid)):
        check_rows(part, rows, inputs, options)
    model, best = fit_model(
        inputs,
        options,
        lambda model: start_from_mean(model, float(train.labels.mean()), options),
        lambda model: _RowTask(model, train, valid, options, seed),
        RankerRun(STAGE, key, seed, checkpoint, hardware),
        log,
    )
    figure = -best if squared else best
    log.finish(STAGE, f"validation {'RMSE' if squared else 'AUC'} {figure:.4f}")
    return model, figure


def predict_rows(model: Ranker, rows: LabelledRows) -> NDArray[np.float32]:
    """Logits of all rows, or ratings, float32 [n]."""
    model.eval()
    columns = _columns(rows)
    with torch.inference_mode():
        parts = [
            _score(model, *(c[start : start + PREDICTED] for c in columns)) for start in range(0, len(rows), PREDICTED)
        ]
    return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, np.float32)


class _RowTask:
    validations_per_epoch = 1

    def __init__(
        self, model: Ranker, train: LabelledRows, valid: LabelledRows, options: RankerOptions, seed: int
    ) -> None:
        self._model, self._valid, self._options, self._seed = model, valid, options, seed
        self._columns, self._labels = _columns(train), torch.from_numpy(train.labels)
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.int64)
        self.num_batches = -(-len(train) // options.batch_size)

    def loss(self, epoch: int, number: int) -> BatchLoss:
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._labels))
            self._epoch, self._order = epoch, torch.from_numpy(order)
        size = self._options.batch_size
        rows = self._order[number * size : (number + 1) * size]
        rows = rows[own_rows(len(rows))]
        if not len(rows):
            return BatchLoss(torch.zeros(()), 0)
        scores = _score(self._model, *(column.index_select(0, rows) for column in self._columns))
        labels, row_list = (part.to(scores.device) for part in (self._labels.index_select(0, rows), rows))
        return BatchLoss(list_loss(self._options.loss, scores, labels, row_list), len(rows))

    def validate(self) -> float:
        own = np.zeros(len(self._valid), np.bool_)
        own[own_rows(len(own))] = True
        scores = np.concatenate(gather(predict_rows(self._model, self._valid.where(own))))
        labels = self._valid.labels
        if self._options.loss == "squared":
            return -float(np.sqrt(np.square(scores.astype(np.float64) - labels).mean()))
        return auc(scores, labels > 0)


def _columns(rows: LabelledRows) -> list[Tensor]:
    arrays = (rows.user_categorical, rows.user_numeric, rows.item_categorical, rows.item_numeric, rows.cross)
    return [torch.from_numpy(array) for array in arrays]


def _score(model: Ranker, *columns: Tensor) -> Tensor:
    device = device_of(model)
    row_user = torch.arange(columns[0].shape[0], device=device)  # each row is its own user
    score: Tensor = model(*(column.to(device) for column in columns), row_user)
    return score


def check_rows(part: str, rows: LabelledRows, inputs: RankerInputs, options: RankerOptions) -> None:
    """Raises ValueError for rows of this part of the table that do not fit the inputs or the loss."""
    if not len(rows):
        raise ValueError(f"the {part} part of the labelled table has no rows")
    for name, columns in (("user_categorical", inputs.user.columns), ("item_categorical", inputs.item.columns)):
        codes = getattr(rows, name)
        _check_width(name, codes, len(columns))
        for column, (feature, size) in enumerate(columns):
            if codes[:, column].min() < 0 or codes[:, column].max() >= size:
                raise ValueError(f"labelled rows: {feature!r} has a code outside 0..{size - 1} in the {part} part")
    for name, width in (
        ("user_numeric", inputs.user_numeric),
        ("item_numeric", inputs.item_numeric),
        ("cross", inputs.cross),
    ):
        _check_width(name, getattr(rows, name), width)
    if options.loss in ("bpr", "softmax"):
        raise ValueError(
            f"[train.ranker] loss = {options.loss!r} compares within a list, and a labelled table has none: "
            "choose log_loss or squared"
        )
    if options.loss == "log_loss" and not np.array_equal(np.unique(rows.labels), [0, 1]):
        raise ValueError(
            f'the labels of the {part} part are not 0 and 1, both present; loss = "squared" learns ratings'
        )
    if (largest := np.abs(rows.labels).max()) > MAX_LABEL:
        raise ValueError(
            f'the labels of the {part} part reach {largest:.3g}, and loss = "squared" takes at most {MAX_LABEL:g}: '
            "divide them by a constant"
        )


def _check_width(name: str, values: NDArray[np.generic], width: int) -> None:
    if values.ndim != 2 or values.shape[1] != width:
        raise ValueError(f"labelled rows: {name} is {list(values.shape)}, the features need {width} columns")
