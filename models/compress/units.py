"""Structured pruning: whole hidden units are removed, with the weights that lead to them and away from them. What is
left is a smaller model of the same kind, faster wherever it runs.

The units of a ranker's layers, and those of the position-wise feed-forward in each of SASRec's blocks.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.layers import FeedForward
from models.ranking.deep import Mlp, Weights
from models.ranking.pieces import Ranker

Kept = list[NDArray[np.int64]]  # of each layer, the units that stay, ascending
Arrays = dict[str, NDArray[Any]]


class Layer(NamedTuple):
    """Where one layer's units stand among the model's arrays.

    incoming: arrays [units, ...] of weights.  others: arrays [units] beside them, biases and norms.  outgoing: the one
    array [..., units].  active: the module whose output is the units' activations, once a call.
    """

    incoming: list[str]
    others: list[str]
    outgoing: str
    active: nn.Module


def ranker_layers(model: Ranker, name: str) -> list[Layer]:
    """The layers of the ranker's perceptron, the first one first. The first layer's weights are spread over the sides,
    the products and the head: they are all the `Weights` there are.

    name: of the model.  Raises ValueError for a model without a perceptron.
    """
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, Mlp)]
    if not found:
        raise ValueError(f"[compress] prune_units: model = {name!r} has no hidden units; leave the pruned variants out")
    ((path, mlp),) = found
    shares = [f"{place}.weight" for place, module in model.named_modules() if isinstance(module, Weights)]
    bias = f"{path.rpartition('.')[0]}.bias"
    layers = []
    for number, norm in enumerate(mlp.norms):
        before = f"{path}.layers.{number - 1}"
        norms = [f"{path}.norms.{number}.{key}" for key, value in norm.state_dict().items() if value.ndim]
        after = f"{path}.layers.{number}.weight" if number < len(mlp.layers) else f"{path}.out.weight"
        incoming, own_bias = (shares, bias) if number == 0 else ([f"{before}.weight"], f"{before}.bias")
        layers.append(Layer(incoming, [own_bias, *norms], after, mlp.dropout))
    return layers


def feed_forward_layers(model: nn.Module) -> list[Layer]:
    """The hidden layer of each position-wise feed-forward, in the order in which they are computed."""
    return [
        Layer([f"{path}.up.weight"], [f"{path}.up.bias"], f"{path}.down.weight", module.dropout)
        for path, module in model.named_modules()
        if isinstance(module, FeedForward)
    ]


def taylor(model: nn.Module, layers: Sequence[Layer], losses: Iterable[Tensor]) -> list[NDArray[np.float64]]:
    """How much the loss would change without a unit, to the first order: the mean over rows of |activation x gradient|
    (Molchanov et al. 2017, equation 8), of each layer, float64 [units].

    losses: made by the model one after the other, while this runs; each is gone backward from once. The model must be
    in evaluation mode, as it is served. Its gradients are left empty.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    modules = list(dict.fromkeys(layer.active for layer in layers))  # a perceptron has one dropout for all its layers
    hooks = [module.register_forward_hook(keep) for module in modules]
    sums = [np.zeros(0)] * len(layers)
    try:
        for loss in losses:
            torch.autograd.backward(loss)
            for place, output in enumerate(seen):
                assert output.grad is not None
                change = (output.detach() * output.grad).abs().flatten(0, -2).sum(0)
                sums[place] = change.double().cpu().numpy() + (sums[place] if len(sums[place]) else 0.0)
            seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
    return sums


def norms(arrays: Arrays, layers: Sequence[Layer]) -> list[NDArray[np.float64]]:
    """The length of a unit's incoming weights times that of its outgoing ones, of each layer, float64 [units]: a unit
    of a ReLU that has its incoming weights doubled and its outgoing ones halved is the same unit."""
    return [
        np.sqrt(sum(_squares(arrays[name]).sum(1) for name in layer.incoming))
        * np.sqrt(_squares(arrays[layer.outgoing]).sum(0))
        for layer in layers
    ]


def most_important(importance: Sequence[NDArray[np.float64]], sizes: Sequence[int]) -> Kept:
    """The `sizes` most important units of each layer; of equals the first."""
    return [np.sort(np.argsort(-values, kind="stable")[:size]) for values, size in zip(importance, sizes, strict=True)]


def sizes_after(sizes: Sequence[int], share: float) -> list[int]:
    """How many units are left of each layer without this share of them; at least one."""
    return [max(1, round(size * (1.0 - share))) for size in sizes]


def cut(arrays: Arrays, layers: Sequence[Layer], kept: Kept) -> Arrays:
    """The arrays of the smaller model."""
    smaller = dict(arrays)
    for layer, units in zip(layers, kept, strict=True):
        for name in [*layer.incoming, *layer.others]:
            smaller[name] = smaller[name][units]
        smaller[layer.outgoing] = smaller[layer.outgoing][..., units]
    return smaller


def _squares(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.square(array.astype(np.float64))
