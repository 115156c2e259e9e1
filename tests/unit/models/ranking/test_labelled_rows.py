"""A ranker from a labelled table: what it finds, that it repeats and goes on, and what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import checkpoint, fitting
from models.ranking import train as training
from models.ranking.build import MODELS, build
from models.ranking.embedding import half_squares
from models.ranking.inputs import RankerInputs
from models.ranking.labelled import LabelledRows, fit_labelled, predict_rows
from models.ranking.options import RankerOptions
from models.run_log import Silent
from models.score_metrics import auc

INPUTS = RankerInputs({"age": 2, "user_id": 13}, 1, {"item_id": 11, "genre": 2}, 0, 1)
OPTIONS = RankerOptions(
    dim=4, hidden=[16], dropout=0.0, embedding_dropout=0.0, learning_rate=3e-2, batch_size=100, epochs=8, patience=4
)


class Recorder(Silent):
    """Notes the steps and stops, as Ctrl-C does, after a number of steps of one stage."""

    def __init__(self, stage: str = "", stop_after: int = 0) -> None:
        self.steps: dict[str, list[int]] = {}
        self._stage, self._stop_after = stage, stop_after

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self.steps.setdefault(stage, []).append(done)
        if stage == self._stage and len(self.steps[stage]) == self._stop_after:
            raise KeyboardInterrupt


def table(count: int, seed: int, *, ratings: bool = False) -> LabelledRows:
    """Users of even id like items of even id; a weight of the cross feature and one of genre 1 beside."""
    rng = np.random.default_rng(seed)
    user, item = 1 + rng.integers(0, 12, count), 1 + rng.integers(0, 10, count)
    genre, cross = rng.integers(0, 2, count), rng.normal(size=(count, 1))
    score = 3.0 * ((user + item) % 2 == 0) - 2.0 + genre + 0.5 * cross[:, 0]
    labels = 3.0 + score if ratings else (rng.random(count) < 1 / (1 + np.exp(-2 * score)))
    return LabelledRows(
        np.stack([rng.integers(0, 2, count), user], 1),
        rng.normal(size=(count, 1)).astype(np.float32),
        np.stack([item, genre], 1),
        np.zeros((count, 0), np.float32),
        cross.astype(np.float32),
        labels.astype(np.float32),
    )


TRAIN, VALID = table(1500, 0), table(600, 1)


def fit(path: Path, log: Any = None, valid: LabelledRows = VALID, train: LabelledRows = TRAIN, **options: Any) -> Any:
    changed = OPTIONS.model_copy(update=options)
    return fit_labelled(INPUTS, train, valid, changed, 5, log or Silent(), path / "checkpoint.npz", "key")


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("lr", "transformer")])
def test_every_model_finds_which_users_like_which_items(name: str, tmp_path: Path) -> None:
    """The figure is that of the weights that come back, on the validation rows."""
    model, figure = fit(tmp_path, model=name)
    assert figure == auc(predict_rows(model, VALID), VALID.labels > 0)
    assert figure > 0.88
    assert not model.training


def test_ratings_are_learned_as_they_are_and_judged_by_rmse(tmp_path: Path) -> None:
    train, valid = table(1500, 2, ratings=True), table(600, 3, ratings=True)
    model, figure = fit(tmp_path, train=train, valid=valid, model="fm", loss="squared")
    difference = predict_rows(model, valid).astype(np.float64) - valid.labels
    assert figure == np.sqrt(np.square(difference).mean())
    assert figure < 0.3 < 1.5 < valid.labels.std()
    untrained, _ = fit(
        tmp_path / "first", train=train, valid=valid, model="fm", loss="squared", epochs=1, learning_rate=1e-9
    )
    assert predict_rows(untrained, valid).mean() == pytest.approx(train.labels.mean(), abs=0.01)


def test_wrong_rows_are_refused(tmp_path: Path) -> None:
    codes = TRAIN.item_categorical.copy()
    codes[7, 1] = 2
    bad = (
        (replace(TRAIN, item_categorical=codes), "'genre' has a code outside 0..1 in the training part"),
        (replace(TRAIN, cross=TRAIN.cross[:, :0]), r"cross is \[1500, 0\], the features need 1 columns"),
        (replace(TRAIN, labels=TRAIN.labels + 1), "not 0 and 1, both present"),
        (replace(TRAIN, labels=TRAIN.labels * 0), "not 0 and 1, both present"),
        (TRAIN.where(np.zeros(len(TRAIN), np.bool_)), "the training part of the labelled table has no rows"),
    )
    for rows, message in bad:
        with pytest.raises(ValueError, match=message):
            fit(tmp_path, train=rows)
    with pytest.raises(ValueError, match="a labelled table has none: choose log_loss or squared"):
        fit(tmp_path, loss="bpr")
    with pytest.raises(ValueError, match="cross has 3 rows and labels has 1500"):
        replace(TRAIN, cross=TRAIN.cross[:3])
    with pytest.raises(ValueError, match="user_numeric has a value that is not finite"):
        replace(TRAIN, user_numeric=TRAIN.user_numeric * np.float32("nan"))


@pytest.mark.parametrize(
    ("name", "stage", "stop_after", "first_step"),
    [("deepfm", "labelled ranker", 23, 21), ("fnn", "labelled ranker fm", 13, 11), ("fnn", "labelled ranker", 8, 6)],
)
def test_interrupted_and_run_again_it_ends_with_the_same_weights(
    name: str, stage: str, stop_after: int, first_step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved every fifth step; FNN's factorisation machine goes on too, or is not trained again."""
    monkeypatch.setattr(fitting, "SAVE_EVERY", 5)
    whole, _ = fit(tmp_path / "whole", model=name, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", Recorder(stage, stop_after), model=name, epochs=3)
    resumed = Recorder()
    again, _ = fit(tmp_path / "broken", resumed, model=name, epochs=3)
    assert resumed.steps[stage][0] == first_step
    assert stage == "labelled ranker fm" or "labelled ranker fm" not in resumed.steps
    one, other = checkpoint.weights(whole), checkpoint.weights(again)
    assert {key: one[key].tobytes() == other[key].tobytes() for key in one} == dict.fromkeys(one, True)
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["checkpoint.npz"]


def test_fnn_starts_from_the_vectors_and_weights_of_a_trained_machine(tmp_path: Path) -> None:
    """Without a step of its own, FNN's fields are those that the machine ends with; the machine gets a third of the
    epochs."""
    log = Recorder()
    machine, _ = fit(tmp_path / "fm", log, model="fm", epochs=2)
    fit(tmp_path / "fnn", log, model="fnn", epochs=6, learning_rate=2e-2)
    assert log.steps["labelled ranker fm"][-1] == 2 * 15
    fresh = build(INPUTS, OPTIONS.model_copy(update={"model": "fnn"}))
    training.start_from_fm(fresh, machine)
    for side in ("user_module", "item_module"):
        own, other = getattr(fresh, side), getattr(machine, side)
        assert torch.equal(own.embedding.table, other.embedding.table)
        assert torch.equal(own.halves[0].weights.table, other.halves[0].weights.table)
        assert torch.equal(own.halves[0].weights.numeric, other.halves[0].weights.numeric)
    assert torch.equal(fresh.head_module.bias, machine.head_module.bias)
    assert torch.equal(fresh.head_module.cross_weight, machine.head_module.cross_weight)


def test_half_squares_are_of_the_vectors_and_weights_of_fields_alone() -> None:
    model = build(INPUTS, OPTIONS.model_copy(update={"model": "deepfm"}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    values = (13 + 2 + 1 + 11 + 2) * (4 + 1)  # codes of both sides and a number, each a vector and a weight
    assert half_squares(model).item() == 0.5 * 4.0 * values


def test_vectors_shrink_with_embedding_l2(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain", model="fm", epochs=3)
    shrunk, _ = fit(tmp_path / "shrunk", model="fm", epochs=3, embedding_l2=1.0)
    assert half_squares(shrunk).item() < 0.1 * half_squares(plain).item()


def test_linear_weights_do_not_find_it(tmp_path: Path) -> None:
    """It is in no feature of one side; genre and the cross feature say a little."""
    assert 0.55 < fit(tmp_path, model="lr")[1] < 0.65
