"""What a look at a model in training finds, beside its loss."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

TABLES = ("table", "users", "items")  # parameters that are looked up without being an nn.Embedding


def figures_of(model: nn.Module, optimizer: torch.optim.Optimizer, gradient_norm: Tensor | None) -> dict[str, float]:
    """learning_rate, gradient_norm, and embedding_norm/<name> of each embedding table: the mean length of its rows.

    gradient_norm: before gradients were clipped; None where they were not.
    """
    if gradient_norm is None:
        gradient_norm = get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    norms = {f"embedding_norm/{name}": _row_length(table) for name, table in embedding_tables(model)}
    return {"learning_rate": optimizer.param_groups[0]["lr"], "gradient_norm": float(gradient_norm), **norms}


def embedding_tables(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """By name, those without a number left out."""
    of_modules = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if (name in of_modules or name.rpartition(".")[2] in TABLES) and parameter.numel():
            yield name.removesuffix(".weight"), parameter.detach()


def _row_length(table: Tensor) -> float:
    return float(table.norm(dim=1).mean())
