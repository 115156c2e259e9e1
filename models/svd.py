"""Few dimensions that keep the inner products of many rows: the truncated singular value decomposition."""

import torch
from torch import Tensor
from torch.nn import functional as F

OVERSAMPLING = 32
FAINT = 0.1
ROUNDS = 4


def row_vectors(matrix: Tensor, dim: int, seed: int = 0) -> Tensor:
    """U S of the `dim` largest singular values, float32 [N, dim], the largest first; zeros where the rank is smaller.

    Their inner products are the closest to the rows' own that any `dim` numbers a row can have (Eckart and Young
    1936). Found by subspace iteration from a random start (Halko et al. 2011, algorithm 4.4), with the sign of each
    dimension fixed, so that the same rows give the same vectors.  matrix: float32 [N, V], dense or sparse.
    """
    num_rows = matrix.shape[0]
    generator = torch.Generator().manual_seed(seed)
    width = min(dim + OVERSAMPLING, num_rows)
    basis = torch.linalg.qr(torch.randn(num_rows, width, generator=generator)).Q
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(matrix @ (matrix.t() @ basis)).Q
    inside = (matrix.t() @ basis).double()  # [V, width]
    values, directions = torch.linalg.eigh(inside.T @ inside)  # ascending
    kept = min(dim, width)
    vectors = (basis.double() @ directions[:, -kept:].flip(1)) * values[-kept:].flip(0).clamp(min=0).sqrt()
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return F.pad(vectors * torch.where(largest < 0, -1.0, 1.0), (0, dim - kept)).float()


def unit_rows(vectors: Tensor) -> Tensor:
    """Rows of length 1; a row shorter than FAINT stays faint.

    What a decomposition keeps of a row with nothing in the shared dimensions is rounding, and must not be made large.
    """
    rows: Tensor = F.normalize(vectors, eps=FAINT)
    return rows
