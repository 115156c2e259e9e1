"""Training on a device beside the CPU and in bfloat16: nothing is left behind, and it ends where the CPU ends."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from other_device import OTHER, MixedDevices, OtherDevice
from planted import write_planted

from models import checkpoint, fitting
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.fitting import Fit
from models.hardware import CPU, Hardware, choose_hardware
from models.options import TrainSection
from models.ranking.inputs import RankerInputs
from models.ranking.labelled import LabelledRows, fit_labelled
from models.ranking.samples import LabelWindow, RankerSamples, ranker_samples
from models.ranking.train import fit_ranker
from models.retrieval.snapshot import snapshot
from models.retrieval.train import build_model, fit
from models.retrieval.validate import validator
from models.run_log import Silent
from models.stage_files import RANKER
from models.targets import Window
from models.train import train

THERE = Hardware(OTHER)
STEPS = {"dim": 8, "history_length": 12, "max_steps": 4, "max_epochs": 1000, "validations": 1, "batch_size": 37}
SASREC = {"model": "sasrec", **STEPS, "moments": 4, "negatives": 8}
RETRIEVAL: dict[str, dict[str, Any]] = {
    "softmax": {**SASREC, "loss": "softmax"},
    "sampled softmax": {**SASREC, "loss": "sampled_softmax"},
    "gbce": {**SASREC, "loss": "gbce"},
    "two towers": {"model": "two_tower", **STEPS, "hidden": [8]},
    "bpr": {"model": "bpr", **STEPS},
    "lightgcn": {"model": "lightgcn", **STEPS, "layers": 2},
    "lightgcn bpr": {"model": "lightgcn", **STEPS, "layers": 2, "loss": "bpr", "l2": 1e-3},
    "gcn": {"model": "gcn", **STEPS, "hidden": 8},
}
SMALL = {"dim": 4, "hidden": [8], "epochs": 1, "windows": 1, "batch_size": 128}
RANKERS: dict[str, dict[str, Any]] = {
    "deepfm": {"model": "deepfm", **SMALL},
    "wide_deep": {"model": "wide_deep", "crosses": [["age_group", "category"]], "embedding_l2": 1e-4, **SMALL},
    "transformer": {"model": "transformer", "history_length": 5, "loss": "softmax", **SMALL},
    "ffm": {"model": "ffm", "loss": "bpr", **SMALL},
    "pnn": {"model": "pnn", "batch_norm": True, **SMALL},
}
Weights = dict[str, NDArray[Any]]


def section(retrieval: dict[str, Any], ranker: dict[str, Any]) -> TrainSection:
    return TrainSection.model_validate({"refit_share": 0.0, "retrieval": retrieval, "ranker": ranker})


# with more, some of torch's gradients (FFM's) add up in another order from run to run, on any device
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


@pytest.fixture(scope="module")
def lists(dataset: Dataset) -> RankerSamples:
    """Candidates of the most popular items, for those who bought in two days."""
    start, end = dataset.splits.valid_start_ms, dataset.splits.test_start_ms
    popular = build_model(dataset, section({"model": "popularity"}, {}), start)
    window = LabelWindow(start, start + (end - start) // 7, snapshot(dataset, popular, start))
    return ranker_samples(dataset, [window], 0, 0, Silent(), "lists", 5)


def both(learn: Callable[[Path, Hardware], Weights], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights learned on the CPU, and on the other device: the same to the bit."""
    expected = learn(folder / "here.npz", CPU)
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which takes no tensors of another kind
    with OtherDevice():
        found = learn(folder / "there.npz", THERE)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name].tobytes() != expected[name].tobytes()] == []


@pytest.mark.parametrize("case", RETRIEVAL)
def test_retrieval_learns_on_another_device_what_it_learns_on_the_cpu(
    case: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch, a table or a mask left on the CPU would be an error; the model comes back to the CPU."""
    start = dataset.splits.valid_start_ms
    validate = validator(dataset, Window("valid", start, dataset.splits.test_start_ms), "new", 12)

    def learn(path: Path, hardware: Hardware) -> Weights:
        run = Fit("retrieval", "key", 0, start, path, validate=validate, hardware=hardware)
        model = fit(dataset, section(RETRIEVAL[case], {"model": "none"}), run, Silent())
        return checkpoint.weights(model) | {"items": model.item_vectors().detach().numpy()}

    both(learn, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", RANKERS)
def test_a_ranker_learns_on_another_device_what_it_learns_on_the_cpu(
    case: str, dataset: Dataset, lists: RankerSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = section({"model": "popularity"}, RANKERS[case])

    def learn(path: Path, hardware: Hardware) -> Weights:
        return checkpoint.weights(fit_ranker(dataset, lists, lists, options, Silent(), path, "key", hardware).model)

    both(learn, tmp_path, monkeypatch)


def test_a_ranker_of_interactions_learns_on_another_device_what_it_learns_on_the_cpu(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = {"model": "fm", "learn_from": "interactions", "loss": "softmax", "negatives": 2, "hard_share": 0.5}
    options = section({"model": "popularity"}, {**ranker, "dim": 4, "epochs": 1, "batch_size": 4096})

    def learn(path: Path, hardware: Hardware) -> Weights:
        train(dataset, options, path.with_suffix(""), Silent(), hardware)
        return checkpoint.load(path.with_suffix("") / f"{RANKER}.npz")[0]

    both(learn, tmp_path, monkeypatch)


@pytest.mark.parametrize("loss", ["log_loss", "squared"])
def test_a_ranker_of_a_table_learns_on_another_device_what_it_learns_on_the_cpu(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    codes, numbers = rng.integers(0, 5, (200, 1)), rng.normal(size=(200, 1)).astype(np.float32)
    rows = LabelledRows(codes, numbers, codes, numbers, numbers, (codes[:, 0] > 2).astype(np.float32))
    inputs = RankerInputs({"age": 5}, 1, {"genre": 5}, 1, 1)
    options = section({}, {"model": "deepfm", "loss": loss, "dim": 4, "hidden": [8], "batch_size": 64}).ranker

    def learn(path: Path, hardware: Hardware) -> Weights:
        return checkpoint.weights(fit_labelled(inputs, rows, rows, options, 0, Silent(), path, "key", hardware)[0])

    both(learn, tmp_path, monkeypatch)


class Stopped(Silent):
    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        if done == 4:
            raise KeyboardInterrupt


def test_a_run_of_another_device_is_gone_on_with_on_the_cpu(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the checkpoint of step 3: weights, the optimizer's state and what validated best were read on the CPU."""
    monkeypatch.setattr(fitting, "SAVE_EVERY", 3)
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    options, start = section(RETRIEVAL["sampled softmax"], {"model": "none"}), dataset.splits.valid_start_ms
    run = Fit("retrieval", "key", 0, start, tmp_path / "whole.npz")
    expected = checkpoint.weights(fit(dataset, options, run, Silent()))
    broken = replace(run, checkpoint=tmp_path / "broken.npz", hardware=THERE)
    with OtherDevice(), pytest.raises(KeyboardInterrupt):
        fit(dataset, options, broken, Stopped())
    assert checkpoint.load(broken.checkpoint)[1]["step"] == 3
    found = checkpoint.weights(fit(dataset, options, replace(broken, hardware=CPU), Silent()))
    assert [name for name in found if found[name].tobytes() != expected[name].tobytes()] == []


def test_a_tensor_left_on_the_cpu_is_noticed() -> None:
    """By what the tests above rely on."""
    with OtherDevice():
        there = torch.arange(3.0).to(OTHER)
        assert (there * 2 + 1).sum().item() == 9.0
        with pytest.raises(MixedDevices, match="add"):
            there + torch.arange(3.0)


def test_bfloat16_ends_near_float32(dataset: Dataset, lists: RankerSamples, tmp_path: Path) -> None:
    """SASRec's NDCG@10 over the catalogue and DeepFM's of its lists; and it is another calculation."""
    mixed, start = Hardware(CPU.device, bf16=True), dataset.splits.valid_start_ms
    validate = validator(dataset, Window("valid", start, dataset.splits.test_start_ms), "all", 12)
    longer = {**SASREC, "dim": 16, "max_steps": 40, "negatives": 64, "learning_rate": 1e-2, "validations": 1}
    options = section(longer, {**RANKERS["deepfm"], "epochs": 4, "batch_size": 32, "learning_rate": 1e-2})
    figures, learned = [], []
    for name, hardware in (("fp32", CPU), ("bf16", mixed)):
        run = Fit("retrieval", "key", 0, start, tmp_path / f"{name}.npz", hardware=hardware)
        model = fit(dataset, options, run, Silent())
        assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
        path = tmp_path / f"{name}.ranker.npz"
        ranked = fit_ranker(dataset, lists, lists, options, Silent(), path, "key", hardware)
        figures.append([validate(model), ranked.validation])
        learned.append([model.blocks[0].feed.up.weight.detach(), ranked.model.head_module.cross_weight.detach()])
    np.testing.assert_allclose(figures[1], figures[0], rtol=0.05)
    assert [torch.equal(one, other) for one, other in zip(*learned, strict=True)] == [False, False]


def test_without_a_gpu_the_cpu_calculates_in_float32_unless_it_is_told_not_to() -> None:
    assert choose_hardware("auto", "auto") == choose_hardware("cpu", "auto", place=3) == CPU
    assert choose_hardware("cpu", "bf16") == Hardware(CPU.device, bf16=True)
    assert str(choose_hardware("cpu", "bf16")) == "cpu, bf16"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda: torch finds no GPU here; use --device auto or cpu"):
        choose_hardware("cuda", "auto")


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with two, of a kind that does not calculate in bfloat16 and one that does."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_hardware("auto", "auto", place=1) == Hardware(torch.device("cuda", 1), bf16=False)
    with pytest.raises(ValueError, match="--precision bf16: this GPU does not"):
        choose_hardware("cuda", "bf16")
    with pytest.raises(ValueError, match="--nproc 3: every process needs a GPU of its own, and torch finds 2"):
        choose_hardware("auto", "fp32", place=2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_hardware("auto", "auto") == Hardware(torch.device("cuda", 0), bf16=True)
    assert choose_hardware("auto", "fp32") == Hardware(torch.device("cuda", 0), bf16=False)
