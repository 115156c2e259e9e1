"""Magnitude pruning (Han et al. 2015): the smallest weights of the layers are set to zero, a few more at each step
(Zhu & Gupta 2017), while the rest learn on. The tables of embeddings, biases and norms are left as they are.

The zeros stand where they were: the graph has the same shape and, multiplying dense matrices, the same speed. It is
smaller only where files are compressed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.ranking.deep import Weights

NAME = "masks"  # of the masks among the model's modules, while it is pruned


class Masks(nn.Module):
    """Which weights are left. Part of the model while it is trained, so that a checkpoint has them too."""

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self._names = list(weights)
        for number, weight in enumerate(weights.values()):
            self.register_buffer(str(number), torch.ones_like(weight, dtype=torch.bool))

    def prune(self, weights: dict[str, nn.Parameter], share: float) -> None:
        """Mask more of each array's smallest weights, until this share of it is masked. What was masked stays so."""
        for number, name in enumerate(self._names):
            mask: Tensor = self.get_buffer(str(number))
            missing = round(share * mask.numel()) - int((~mask).sum())
            if missing > 0:
                size = torch.where(mask, weights[name].detach().abs(), torch.inf).flatten()
                mask.view(-1)[torch.topk(size, missing, largest=False).indices] = False

    @torch.no_grad()
    def apply_to(self, weights: dict[str, nn.Parameter]) -> None:
        for number, name in enumerate(self._names):
            weights[name].mul_(self.get_buffer(str(number)))


class Pruning:
    """Prunes a model while it is trained.  share: of the weights, in the end.  steps: until then.

    Call `at` before each step's loss, and `now` before each validation and after the last step: an optimizer's momentum
    moves a weight that has no gradient.
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        self._model, self._share, self._steps = model, share, steps
        self._masks = Masks(layer_weights(model))
        model.add_module(NAME, self._masks)

    def at(self, step: int) -> None:
        self._masks.prune(layer_weights(self._model), share_at(step, self._share, self._steps))
        self.now()

    def now(self) -> None:
        self._masks.apply_to(layer_weights(self._model))

    def finish(self) -> None:
        """The model without its masks, its pruned weights zero."""
        self.now()
        delattr(self._model, NAME)


def share_at(step: int, share: float, steps: int) -> float:
    """The share that is pruned at a step, counted from 0: s (1 - (1 - (t + 1) / n)^3), Zhu & Gupta 2017, equation 1
    from nothing; all of it from step n - 1 on."""
    left = max(0.0, 1.0 - (step + 1) / max(1, steps))
    return float(share * (1.0 - left**3))


def layer_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices of the model's layers, by name; empty where it has none."""
    paths = {path for path, module in model.named_modules() if isinstance(module, nn.Linear | Weights)}
    return {
        name: weight
        for name, weight in model.named_parameters()
        if name.removesuffix(".weight") in paths and name.endswith(".weight") and weight.numel()
    }


def zeros(arrays: dict[str, NDArray[Any]], names: list[str]) -> float:
    """Share of zeros among the values of some arrays."""
    return float(np.mean(np.concatenate([arrays[name].ravel() == 0 for name in names])))
