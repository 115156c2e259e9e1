"""Where training calculates and in which precision: what may differ from machine to machine, and is no part of a run's
settings (docs/decisions/20-precision.md)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


class Hardware(NamedTuple):
    """device: of the model and its batches while it learns.  bf16: whether the loss may use bfloat16."""

    device: torch.device
    bf16: bool = False

    def mixed(self) -> AbstractContextManager[Any]:
        """What is calculated inside has its matrix products in bfloat16, if that was chosen. Weights, gradients and the
        optimizer's state are float32 all the same; bfloat16 has the exponents of float32, so no loss is scaled."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def __str__(self) -> str:
        return f"{self.device}, {'bf16' if self.bf16 else 'fp32'}"


CPU = Hardware(torch.device("cpu"))


def choose_hardware(device: Device, precision: Precision, place: int = 0) -> Hardware:
    """auto: a GPU where there is one, and bfloat16 on a GPU that calculates with it; a CPU stays with float32.

    place: of this process among those of its machine; each has a GPU of its own. Raises ValueError for what the machine
    has not.
    """
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if not gpus:
        if device == "cuda":
            raise ValueError("--device cuda: torch finds no GPU here; use --device auto or cpu")
        return Hardware(CPU.device, precision == "bf16")
    if place >= gpus:
        raise ValueError(
            f"--nproc {place + 1}: every process needs a GPU of its own, and torch finds {gpus}; use fewer processes, "
            "or --device cpu"
        )
    able = torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and not able:
        raise ValueError("--precision bf16: this GPU does not calculate in bfloat16; use --precision auto or fp32")
    return Hardware(torch.device("cuda", place), able and precision != "fp32")


def device_of(model: nn.Module) -> torch.device:
    """Of its weights."""
    return next(model.parameters()).device


def placed(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor there; on the CPU it shares the array's memory."""
    return torch.from_numpy(array).to(device)
