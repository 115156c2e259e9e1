"""All stages of training on the planted shop, small: what they find, that they repeat, and that they go on."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted import write_planted

from models import checkpoint, fitting
from models.baselines import popularity
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.fitting import Fit
from models.options import ContentShare, SasRecOptions, TrainSection
from models.ranking.options import RankerOptions
from models.retrieval.model import RetrievalModel
from models.retrieval.train import fit
from models.run_log import Silent
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, given_up
from models.train import train
from models.trained import load_first_retrieval, load_trained

STAGES = (RETRIEVAL, RANKER, RETRIEVAL_TEST, RETRIEVAL_LAST)
OPTIONS = TrainSection(
    refit_share=0.4,
    retrieval=SasRecOptions(
        dim=16,
        layers=1,
        history_length=20,
        moments=8,
        negatives=64,
        batch_size=64,
        max_steps=30,
        patience=8,
        learning_rate=1e-2,
    ),
    ranker=RankerOptions(windows=1, epochs=2, dim=4, hidden=[16], learning_rate=1e-2),
)
Weights = dict[str, dict[str, NDArray[Any]]]


class Recorder(Silent):
    """Notes the last step of each stage, and presses Ctrl-C after a number of steps of one."""

    def __init__(self, stage: str = "", stop_after: int = 0) -> None:
        self.steps: dict[str, list[int]] = {}
        self.notes: dict[str, str] = {}
        self._stage, self._stop_after = stage, stop_after

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self.steps.setdefault(stage, []).append(done)
        if stage == self._stage and len(self.steps[stage]) == self._stop_after:
            raise KeyboardInterrupt

    def finish(self, stage: str, note: str) -> None:
        self.notes[stage] = note


# the order of a sum over threads is not what is tested here, and the machine is shared
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained without a break; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    train(dataset, OPTIONS, folder, Silent())
    return folder


def weights(folder: Path) -> Weights:
    return {stage: checkpoint.load(folder / f"{stage}.npz")[0] for stage in STAGES}


def same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    """To the last bit."""
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_the_ranker_beats_the_order_of_retrieval(dataset: Dataset, folder: Path) -> None:
    """On the validation window. Rebuys and partners are planted: what the user does again, and what follows what."""
    trained = load_trained(dataset, OPTIONS, folder, for_test=False)
    assert trained.figures["ndcg@10"] > 1.1 * trained.figures["retrieval_ndcg@10"] > 0
    assert trained.until_ms == dataset.splits.end_ms
    assert load_trained(dataset, OPTIONS, folder, for_test=True).until_ms == dataset.splits.test_start_ms
    assert not trained.retrieval.training
    assert not trained.ranker.training


def test_only_finished_stages_are_left(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{stage}.npz" for stage in STAGES)


def test_the_same_seed_gives_the_same_weights_to_the_bit(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)  # what else the process drew does not matter
    np.random.default_rng(5).random(7)
    train(dataset, OPTIONS, tmp_path, Silent())
    one, other = weights(folder), weights(tmp_path)
    assert {stage: same(one[stage], other[stage]) for stage in STAGES} == dict.fromkeys(STAGES, True)
    assert not same(one[RETRIEVAL_TEST], one[RETRIEVAL_LAST]), "each stage learns something"


def test_without_a_refit_the_later_stages_take_the_weights_over(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    """And the model for serving still has the popularity of its own moment."""
    short = OPTIONS.retrieval.model_copy(update={"max_steps": 4})
    options = OPTIONS.model_copy(update={"refit_share": 0.0, "retrieval": short})
    train(dataset, options, tmp_path, Silent())
    found = weights(tmp_path)
    assert same(found[RETRIEVAL], found[RETRIEVAL_TEST])
    assert same(found[RETRIEVAL], found[RETRIEVAL_LAST])
    test, last = (load_trained(dataset, options, tmp_path, for_test=kind).retrieval for kind in (True, False))
    assert not torch.equal(test.items.log_popularity, last.items.log_popularity)


@pytest.mark.parametrize(
    ("stage", "stop_after", "first_step"),
    [(RETRIEVAL, 17, 16), (RANKER, 7, 6), (RETRIEVAL_LAST, 8, 6)],
)
def test_interrupted_and_run_again_it_ends_with_the_same_weights(
    dataset: Dataset,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    stop_after: int,
    first_step: int,
) -> None:
    """Saved every fifth step, it goes on behind the last saved one, and repeats no finished stage."""
    monkeypatch.setattr(fitting, "SAVE_EVERY", 5)
    for done in STAGES[: STAGES.index(stage)]:
        (tmp_path / f"{done}.npz").write_bytes((folder / f"{done}.npz").read_bytes())
    with pytest.raises(KeyboardInterrupt):
        train(dataset, OPTIONS, tmp_path, Recorder(stage, stop_after))
    resumed = Recorder()
    train(dataset, OPTIONS, tmp_path, resumed)
    assert resumed.steps[stage][0] == first_step
    assert {done: resumed.notes[done] for done in STAGES[: STAGES.index(stage)]} == dict.fromkeys(
        STAGES[: STAGES.index(stage)], "done before"
    )
    one, other = weights(folder), weights(tmp_path)
    assert {name: same(one[name], other[name]) for name in STAGES} == dict.fromkeys(STAGES, True)


def test_a_checkpoint_of_other_settings_is_named(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SAVE_EVERY", 5)
    assert given_up(dataset, OPTIONS, tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        train(dataset, OPTIONS, tmp_path, Recorder(RETRIEVAL, 7))
    assert given_up(dataset, OPTIONS, tmp_path) == []
    other = OPTIONS.model_copy(update={"seed": 1})
    assert given_up(dataset, other, tmp_path) == [tmp_path / f"{RETRIEVAL}.checkpoint.npz"]


def test_finished_stages_are_skipped(dataset: Dataset, folder: Path) -> None:
    again = Recorder()
    before = weights(folder)
    train(dataset, OPTIONS, folder, again)
    assert again.notes == dict.fromkeys(STAGES, "done before")
    assert again.steps == {}
    assert all(same(before[stage], found) for stage, found in weights(folder).items())


def test_changed_options_train_anew_and_are_not_taken_for_the_old(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    """A stage, finished or half done, of other options is neither used nor gone on with."""
    for stage in STAGES:
        (tmp_path / f"{stage}.npz").write_bytes((folder / f"{stage}.npz").read_bytes())
    other = OPTIONS.model_copy(update={"seed": 1})
    with pytest.raises(checkpoint.CheckpointError, match="trained on other data or with other settings"):
        load_trained(dataset, other, tmp_path, for_test=False)
    log = Recorder(RETRIEVAL, 2)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, other, tmp_path, log)
    assert log.steps[RETRIEVAL] == [1, 2]


def test_another_ranker_keeps_the_retrieval_models(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    """Unless it learns from other windows, which retrieval may then not know."""
    for stage in STAGES:
        (tmp_path / f"{stage}.npz").write_bytes((folder / f"{stage}.npz").read_bytes())
    log = Recorder()
    train(dataset, OPTIONS.model_copy(update={"ranker": RankerOptions(windows=1, epochs=1)}), tmp_path, log)
    assert not {RETRIEVAL, RETRIEVAL_TEST, RETRIEVAL_LAST} & log.steps.keys()
    assert {stage: log.notes[stage] for stage in STAGES if stage != RANKER} == dict.fromkeys(
        (RETRIEVAL, RETRIEVAL_TEST, RETRIEVAL_LAST), "done before"
    )
    with pytest.raises(checkpoint.CheckpointError, match=r"retrieval_last\.npz: was trained .* with other settings"):
        load_trained(
            dataset, OPTIONS.model_copy(update={"ranker": RankerOptions(model="none")}), tmp_path, for_test=False
        )


@pytest.mark.parametrize(
    ("ranker", "message"),
    [
        ({"model": "neumf"}, "id_feature = true"),
        ({"model": "wide_deep", "crosses": [["colour", "shape"]]}, "no categorical feature 'colour'"),
        ({"model": "transformer", "dim": 5}, "dim = 5 is not a multiple of heads = 2"),
    ],
)
def test_a_ranker_that_cannot_be_built_is_refused_before_anything_is_trained(
    dataset: Dataset, tmp_path: Path, ranker: dict[str, Any], message: str
) -> None:
    log = Recorder()
    with pytest.raises(ValueError, match=message):
        train(dataset, OPTIONS.model_copy(update={"ranker": RankerOptions(**ranker)}), tmp_path, log)
    assert (log.steps, list(tmp_path.iterdir())) == ({}, [])


def test_content_of_items_without_features_is_refused_before_anything_is_trained(
    dataset: Dataset, tmp_path: Path
) -> None:
    bare = replace(
        dataset,
        schema=dataset.schema.model_copy(update={"item_features": [], "affinity": []}),
        item_categorical=np.zeros((dataset.num_items, 0), np.int32),
        item_numeric=np.zeros((dataset.num_items, 0), np.float32),
    )
    options = OPTIONS.model_copy(update={"content": ContentShare(weight=0.5), "ranker": RankerOptions(model="none")})
    log = Recorder()
    with pytest.raises(ValueError, match="content is made of the features of the items"):
        train(bare, options, tmp_path, log)
    assert (log.steps, list(tmp_path.iterdir())) == ({}, [])


def test_a_ranker_of_candidates_without_a_window_is_refused_before_anything_is_trained(
    dataset: Dataset, tmp_path: Path
) -> None:
    splits = replace(dataset.splits, ranker_start_ms=dataset.splits.valid_start_ms)
    log = Recorder()
    with pytest.raises(ValueError, match=r"no window for the ranker .* set split\.ranker_windows to 1 or more"):
        train(replace(dataset, splits=splits), OPTIONS, tmp_path, log)
    assert (log.steps, list(tmp_path.iterdir())) == ({}, [])


def test_without_a_ranker_retrieval_learns_up_to_validation(dataset: Dataset, tmp_path: Path) -> None:
    short = OPTIONS.retrieval.model_copy(update={"max_steps": 4})
    options = OPTIONS.model_copy(update={"ranker": RankerOptions(model="none"), "retrieval": short, "refit_share": 0.0})
    train(dataset, options, tmp_path, Silent())
    assert not (tmp_path / f"{RANKER}.npz").exists()
    trained = load_trained(dataset, options, tmp_path, for_test=True)
    assert (trained.ranker, trained.until_ms) == (None, dataset.splits.test_start_ms)
    first = load_first_retrieval(dataset, options, tmp_path)
    past = dataset.interactions.before(dataset.splits.valid_start_ms)
    expected = np.log(popularity(past, dataset.num_items, dataset.splits.valid_start_ms) + 0.5)
    found = first.items.log_popularity.numpy()
    np.testing.assert_allclose(found, expected - expected.mean(), rtol=1e-5, atol=1e-6)


def test_a_damaged_stage_is_trained_again(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    for stage in STAGES:
        (tmp_path / f"{stage}.npz").write_bytes((folder / f"{stage}.npz").read_bytes())
    (tmp_path / f"{RETRIEVAL_LAST}.npz").write_bytes(b"PK torn")
    with pytest.raises(checkpoint.CheckpointError, match=r"retrieval_last\.npz: is damaged"):
        load_trained(dataset, OPTIONS, tmp_path, for_test=False)
    log = Recorder()
    train(dataset, OPTIONS, tmp_path, log)
    assert list(log.steps) == [RETRIEVAL_LAST]
    assert same(weights(tmp_path)[RETRIEVAL_LAST], weights(folder)[RETRIEVAL_LAST])


def test_a_stage_without_its_header_or_with_other_weights_is_named(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    """As a hand or another program may leave it: the file and what to do, whatever is wrong with it."""
    for stage in STAGES:
        (tmp_path / f"{stage}.npz").write_bytes((folder / f"{stage}.npz").read_bytes())
    again = r"; delete it and run `shortlist train` again"
    for stage in (RETRIEVAL_LAST, RANKER):
        path = tmp_path / f"{stage}.npz"
        arrays, header = checkpoint.load(path)
        for field in ("key", "figures"):
            checkpoint.save(path, arrays, {name: value for name, value in header.items() if name != field})
            with pytest.raises(checkpoint.CheckpointError, match=rf"{stage}\.npz: has no {field!r}.*{again}"):
                load_trained(dataset, OPTIONS, tmp_path, for_test=False)
        checkpoint.save(path, {}, header)
        with pytest.raises(checkpoint.CheckpointError, match=rf"{stage}\.npz: the checkpoint has no .*{again}"):
            load_trained(dataset, OPTIONS, tmp_path, for_test=False)
        checkpoint.save(path, arrays, header)


def test_a_refit_of_weights_that_do_not_fit_names_their_file(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    """They come from the stage before, and nothing is written of the stage that would go on from them."""
    for stage in (RETRIEVAL, RANKER):
        (tmp_path / f"{stage}.npz").write_bytes((folder / f"{stage}.npz").read_bytes())
    arrays, header = checkpoint.load(tmp_path / f"{RETRIEVAL}.npz")
    name = next(iter(arrays))
    checkpoint.save(tmp_path / f"{RETRIEVAL}.npz", arrays | {name: np.zeros((3, 9), np.float32)}, header)
    told = rf"{RETRIEVAL}\.npz: '{re.escape(name)}' is \[3, 9\] .*; delete it and run `shortlist train` again"
    with pytest.raises(checkpoint.CheckpointError, match=told):
        train(dataset, OPTIONS, tmp_path, Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{RANKER}.npz", f"{RETRIEVAL}.npz"]


def test_weights_that_are_only_taken_over_must_fit_too(dataset: Dataset, tmp_path: Path) -> None:
    settings = {"retrieval": {"model": "ease"}, "ranker": {"model": "none"}, "refit_share": 0.0}
    options = TrainSection.model_validate(settings)
    train(dataset, options, tmp_path, Silent())
    (tmp_path / f"{RETRIEVAL_TEST}.npz").unlink()
    arrays, header = checkpoint.load(tmp_path / f"{RETRIEVAL}.npz")
    checkpoint.save(tmp_path / f"{RETRIEVAL}.npz", arrays | {"more": np.zeros(1)}, header)
    with pytest.raises(checkpoint.CheckpointError, match=rf"{RETRIEVAL}\.npz: the checkpoint has 'more'"):
        train(dataset, options, tmp_path, Silent())
    assert not (tmp_path / f"{RETRIEVAL_TEST}.npz").exists()


def test_it_stops_when_validation_gains_no_more_and_keeps_the_best(dataset: Dataset, tmp_path: Path) -> None:
    """Figures 1, 2, 2 and 1.5: two validations without a gain. A validation is every third of 24 steps."""
    figures = iter([1.0, 2.0, 2.0, 1.5, 9.0])
    seen: list[dict[str, NDArray[Any]]] = []

    def validate(model: RetrievalModel) -> float:
        assert not model.training
        seen.append(checkpoint.weights(model))
        return next(figures)

    hasty = OPTIONS.retrieval.model_copy(update={"patience": 2, "max_steps": 24})
    options, log = OPTIONS.model_copy(update={"retrieval": hasty}), Recorder()
    run = Fit("x", "key", 0, dataset.splits.valid_start_ms, tmp_path / "x.npz", validate=validate)
    model = fit(dataset, options, run, log)
    assert log.steps["x"][-1] == 12
    assert log.notes["x"] == "12 steps, best validation 2.0000"
    assert same(checkpoint.weights(model), seen[1])
    assert not same(seen[1], seen[2])
