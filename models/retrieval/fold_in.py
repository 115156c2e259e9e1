"""The vector of a user from their history alone, given the item vectors: a ridge regression solved inside the graph."""

import torch
from torch import Tensor

TINY = 1e-30  # an exact solution leaves 0 / 0


def fold_in(vectors: Tensor, diagonal: Tensor, steps: int) -> Tensor:
    """Solves (diag(diagonal) + V'V) x = V'1 for each row of a batch: user vectors [B, d].

    vectors: V, [B, L, d], the vectors of the items taken, rows of zeros between them count for nothing.  diagonal: [B,
    d], positive.  steps: of the conjugate gradient method, preconditioned with the diagonal; in exact arithmetic as
    many as V has distinct rows are enough. Products and element-wise operations only, so that it exports.
    """
    x = torch.zeros_like(diagonal)
    residual = vectors.sum(1)
    scaled = residual / diagonal
    direction = scaled
    error = (residual * scaled).sum(-1, keepdim=True)  # [B, 1]
    for _ in range(steps):
        along = vectors @ direction.unsqueeze(-1)  # [B, L, d] @ [B, d, 1] -> [B, L, 1]
        image = diagonal * direction + (along.transpose(1, 2) @ vectors).squeeze(1)  # [B, 1, L] @ [B, L, d]
        step = error / (direction * image).sum(-1, keepdim=True).clamp(min=TINY)
        x = x + step * direction
        residual = residual - step * image
        scaled = residual / diagonal
        last_error, error = error, (residual * scaled).sum(-1, keepdim=True)
        direction = scaled + error / last_error.clamp(min=TINY) * direction
    return x
