"""Checkpoints: what was saved comes back to the bit, and whatever else lies there is refused by name."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import checkpoint
from models.checkpoint import CheckpointError
from models.training_state import TrainingState


def model(width: int = 4, layers: int = 1, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(6, width), *(nn.Linear(width, width) for _ in range(layers)))


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        loss = net(torch.arange(6)).square().sum() * (step + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_arrays_and_header_come_back(tmp_path: Path) -> None:
    arrays = {"a/b:c": np.arange(6.0).reshape(2, 3), "scalar": np.array(7), "empty": np.empty((0, 4), np.float32)}
    checkpoint.save(tmp_path / "deep/er/x.npz", arrays, {"key": "k", "best": None, "step": 3})
    found, header = checkpoint.load(tmp_path / "deep/er/x.npz")
    assert header == {"key": "k", "best": None, "step": 3}
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()
    }
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["x.npz"], "nothing unfinished stays"


def test_model_and_optimizer_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    """Three steps and three more from the checkpoint, in new objects, are six steps, to the bit."""
    first = model()
    optimizer = torch.optim.AdamW(first.parameters(), 0.1)
    learn(first, optimizer, 3)
    path = tmp_path / "x.npz"
    state = {f"optimizer:{name}": array for name, array in checkpoint.optimizer_arrays(optimizer).items()}
    checkpoint.save(path, checkpoint.weights(first) | state, {})
    learn(first, optimizer, 3)

    arrays, _ = checkpoint.load(path)
    again = model(seed=9)
    resumed = torch.optim.AdamW(again.parameters(), 0.1)
    mine = {name: array for name, array in arrays.items() if not name.startswith("optimizer:")}
    checkpoint.set_weights(again, mine)
    checkpoint.set_optimizer(resumed, {n.removeprefix("optimizer:"): a for n, a in arrays.items() if n not in mine})
    learn(again, resumed, 3)
    for name, array in checkpoint.weights(first).items():
        assert np.array_equal(array, checkpoint.weights(again)[name])


def test_saved_weights_do_not_change_when_training_goes_on() -> None:
    net = model()
    kept = checkpoint.weights(net)
    before = {name: array.copy() for name, array in kept.items()}
    learn(net, torch.optim.SGD(net.parameters(), 0.1), 1)
    assert all(np.array_equal(kept[name], before[name]) for name in kept)
    assert not np.array_equal(checkpoint.weights(net)["0.weight"], kept["0.weight"])


def test_a_missing_checkpoint_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.npz: does not exist; run `shortlist train`"):
        checkpoint.load(tmp_path / "x.npz")


def whole(tmp_path: Path) -> bytes:
    checkpoint.save(tmp_path / "whole.npz", {"weights": np.arange(1000.0)}, {"key": "k"})
    return (tmp_path / "whole.npz").read_bytes()


def flipped(raw: bytes) -> bytes:
    """One bit in the middle of the array's bytes."""
    place = len(raw) // 2
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def npy(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


def without_header(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.arange(3))
    return buffer.getvalue()


def pickled(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.array([{}], object))
    return buffer.getvalue()


def no_array(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("__header__", b"{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: b"PK\x03\x04",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"something else altogether",
        flipped,
        npy,
        without_header,
        pickled,
        no_array,
    ],
)
def test_a_damaged_file_is_named_and_can_be_deleted(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Torn, flipped, empty or of another kind: never an error of the libraries that read it, and never pickle."""
    path = tmp_path / "x.npz"
    path.write_bytes(damage(whole(tmp_path)))
    with pytest.raises(CheckpointError, match=r"x\.npz: is damaged; delete it and run `shortlist train` again"):
        checkpoint.load(path)


@pytest.mark.parametrize("header", [b'{"format_version": 0}', b"{}", b"[1]"])
def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, header: bytes) -> None:
    np.savez(tmp_path / "x.npz", __header__=np.frombuffer(header, np.uint8))
    with pytest.raises(CheckpointError, match=r"x\.npz: was written by another version"):
        checkpoint.load(tmp_path / "x.npz")


def test_weights_of_another_schema_are_refused_with_the_first_difference() -> None:
    net = model()
    before = checkpoint.weights(net)
    difference = r"'0\.weight' is \[6, 5\] in the checkpoint and \[6, 4\] in the model: .* of another schema"
    with pytest.raises(CheckpointError, match=difference):
        checkpoint.set_weights(net, checkpoint.weights(model(width=5)))
    assert all(np.array_equal(array, before[name]) for name, array in checkpoint.weights(net).items())


def test_weights_of_a_smaller_or_larger_model_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"the checkpoint has no '2\.weight': it is of another model"):
        checkpoint.set_weights(model(layers=2), checkpoint.weights(model()))
    with pytest.raises(CheckpointError, match=r"the checkpoint has '2\.weight', which the model has not"):
        checkpoint.set_weights(model(), checkpoint.weights(model(layers=2)))


def test_a_run_that_dies_while_saving_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """Half of the new one is on the disk under another name: the old one is still there."""
    path = tmp_path / "x.npz"
    checkpoint.save(path, {"weights": np.arange(3)}, {"step": 1})
    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoint.save(path, {"weights": np.array([{}], object)}, {"step": 2})
    assert checkpoint.load(path)[1] == {"step": 1}


def test_a_run_to_go_on_with_that_is_not_whole_is_named(tmp_path: Path) -> None:
    """A header that lacks a field, or has text for a number; weights of another shape."""
    net, path = model(), tmp_path / "x.checkpoint.npz"
    state = TrainingState(path, "key", net, torch.optim.AdamW(net.parameters()))
    state.save()
    arrays, header = checkpoint.load(path)
    again = "; delete it and run `shortlist train` again"
    for name in header:
        checkpoint.save(path, arrays, {field: value for field, value in header.items() if field != name})
        with pytest.raises(CheckpointError, match=rf"x\.checkpoint\.npz: has no {name!r}.*{again}"):
            state.resume()
    checkpoint.save(path, arrays, header | {"step": "many"})
    with pytest.raises(CheckpointError, match=rf"x\.checkpoint\.npz: has no 'step'.*{again}"):
        state.resume()
    checkpoint.save(path, arrays | {"weights:0.weight": np.zeros((6, 9), np.float32)}, header)
    with pytest.raises(CheckpointError, match=rf"x\.checkpoint\.npz: '0\.weight' is \[6, 9\].*{again}"):
        state.resume()
