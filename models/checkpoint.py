"""Checkpoints without pickle: named arrays in one .npz, and a small JSON header among them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import nn

FORMAT_VERSION = 1
# what reading a torn, changed or foreign file as .npz may end with
_DAMAGED = (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError, AttributeError)


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names the file and the reason."""


def save(path: Path, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
    """Write atomically: a run that dies leaves the last checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = np.frombuffer(orjson.dumps({"format_version": FORMAT_VERSION, **header}), np.uint8)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, __header__=encoded, **arrays)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def load(
    path: Path, fields: Mapping[str, type | tuple[type, ...]] = MappingProxyType({})
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and header. Raises CheckpointError for a missing, damaged or foreign file.

    fields: what the header must have, by the kind of its value.
    """
    try:
        # np.load would leave a torn file that it opened itself open
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = orjson.loads(arrays.pop("__header__").tobytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: does not exist; run `shortlist train`") from error
    except _DAMAGED as error:
        raise CheckpointError(f"{path}: is damaged; delete it and run `shortlist train` again") from error
    if not isinstance(header, dict) or header.pop("format_version", None) != FORMAT_VERSION:
        raise CheckpointError(f"{path}: was written by another version; delete it and run `shortlist train` again")
    for name, kind in fields.items():
        if name not in header or not isinstance(header[name], kind):
            raise CheckpointError(f"{path}: has no {name!r} in its header; delete it and run `shortlist train` again")
    return arrays, header


def has_another_key(path: Path, key: str) -> bool:
    """Whether a whole checkpoint stands here that another run left. Its arrays are not read."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            header = orjson.loads(file["__header__"].tobytes())
    except _DAMAGED:
        return False
    return isinstance(header, dict) and header.get("key") != key


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Weights that do not fit, which came from this file: the error names it and says what to do."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; delete it and run `shortlist train` again") from error


def weights(module: nn.Module) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def set_weights(module: nn.Module, arrays: dict[str, NDArray[Any]]) -> None:
    """Raises CheckpointError when the arrays are of another model or schema; the message names the first difference."""
    tensors = module.state_dict()
    for name, tensor in tensors.items():
        if name not in arrays:
            raise CheckpointError(f"the checkpoint has no {name!r}: it is of another model")
        if arrays[name].shape != tuple(tensor.shape):
            raise CheckpointError(
                f"{name!r} is {list(arrays[name].shape)} in the checkpoint and {list(tensor.shape)} in the model: "
                "the checkpoint is of another schema"
            )
    for name in arrays:
        if name not in tensors:
            raise CheckpointError(f"the checkpoint has {name!r}, which the model has not: it is of another model")
    module.load_state_dict({name: torch.from_numpy(arrays[name].copy()) for name in tensors})


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """The optimizer's tensors as `number/name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": torch.as_tensor(value).cpu().numpy().copy()
        for number, entry in state.items()
        for name, value in entry.items()
    }


def set_optimizer(optimizer: torch.optim.Optimizer, arrays: dict[str, NDArray[Any]]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in arrays.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = torch.from_numpy(value.copy())
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
