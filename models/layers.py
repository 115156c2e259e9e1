"""Layers that models share: those of a Transformer (Vaswani et al. 2017), and a mean over several values."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: softmax(Q K' / sqrt(d) + bias) V (Vaswani et al. 2017, equation 1).

    queries [..., q, d], keys [..., n, d], values [..., n, e] -> [..., q, e].  bias: added to the logits, broadcast to
    [..., q, n]; a very negative one forbids a key.
    """
    logits = (queries / queries.shape[-1] ** 0.5) @ keys.transpose(-1, -2)
    if bias is not None:
        logits = logits + bias
    return torch.softmax(logits, -1) @ values


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, n, d] -> [B, h, n, d/h]: each head attends within its own slice of the dimensions."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B, h, n, e] -> [B, n, h e], the inverse of `split_heads`."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def mean_of_values(codes: Tensor, vectors: Tensor) -> Tensor:
    """The mean of the vectors of an item's values, 0 for an item without any: codes int64 [..., m], 0 for padding,
    whose vector does not count; vectors [..., m, d] -> [..., d].

    As a product with shares: it adds in one order, whatever the batch.
    """
    present = codes > 0
    share = present / present.sum(-1, keepdim=True).clamp(min=1)
    return (share.to(vectors.dtype).unsqueeze(-2) @ vectors).squeeze(-2)


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between, at every position alone; dropout on the hidden units."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d] -> [..., d]."""
        out: Tensor = self.down(self.dropout(F.relu(self.up(x))))
        return out
