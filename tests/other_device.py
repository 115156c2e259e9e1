"""A device beside the CPU on a machine that has no other, to see that nothing of training stays behind on the CPU.

A tensor there holds an ordinary one, with which everything is calculated, so results are those of the CPU to the bit;
but an operation that meets tensors of both devices fails, as it would with a GPU. torch's own FakeTensorMode knows no
values, which a loss over the rows that have a target needs, and no "cuda" where torch was built without.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

OTHER = torch.device("meta")  # a name that torch knows everywhere


class MixedDevices(AssertionError):
    """An operation on tensors of both devices."""


class OtherTensor(torch.Tensor):
    held: torch.Tensor
    is_meta = False  # it has values

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OtherTensor":
        made: OtherTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=OTHER
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return calculate(operation, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """While it is entered, tensors can be moved to OTHER, made there and moved back."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return calculate(operation, args, kwargs or {})


def calculate(operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OtherTensor)}
    # a number may be on the CPU, and copying is what moves values
    here = [tensor for tensor in tensors if not isinstance(tensor, OtherTensor) and tensor.dim()]
    if there and here and "copy_" not in str(operation):
        raise MixedDevices(f"{operation} of a tensor on the CPU, {list(here[0].shape)}, and one that is not")
    to = kwargs.get("device")
    is_there = bool(there) if to is None else torch.device(to) == OTHER
    if to is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}

    def put(result: Any) -> Any:
        if not isinstance(result, torch.Tensor):
            return result
        if not is_there:
            return result
        return there[id(result)] if id(result) in there else OtherTensor(result)  # in place: the same tensor

    return tree_map(put, operation(*tree_map(_held, args), **tree_map(_held, kwargs)))


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OtherTensor) else value
