"""Item-based models: a user vector is a sum over the history.

An item-item matrix B [N, N] gives a user with the distinct items S the scores sum over i in S of B[i]. Factorised, B ~
P Q', the sum over S of P[i] is a user vector and Q are item vectors, so these models serve as all others do.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import LinearOptions
from models.retrieval.model import RetrievalModel
from models.retrieval.pairs import interaction_matrix
from models.retrieval.popularity import popularity_column, with_popularity
from models.run_log import RunLog

OVERSAMPLING = 32
ROUNDS = 6
KNOWN_CELLS = 2**27  # numbers in the vectors of all users of the data: 512 MB


class LinearTower(RetrievalModel):
    """Item vectors are Q and the item's popularity, [N, rank + 1].  inputs, outputs: P and Q, float32 [N, rank].

    past: what the users of the data took before the training's end, sparse [U, N]; None where their vectors would take
    too much memory.
    """

    inputs: Tensor
    outputs: Tensor
    popularity: Tensor

    def __init__(
        self, popularity: Tensor, rank: int, history_length: int, past: Callable[[], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.history_length, self.past = history_length, past
        self.register_buffer("inputs", torch.zeros(len(popularity), rank))
        self.register_buffer("outputs", torch.zeros(len(popularity), rank))
        self.register_buffer("popularity", popularity, persistent=False)  # as of the moment it is used for

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        items, first = distinct_items(history)
        # A product with a row of ones and zeros sums in one order, whatever the batch: [B, 1, L] @ [B, L, rank]
        return with_popularity((first.unsqueeze(1) @ self.inputs[items]).squeeze(1))

    def item_vectors(self) -> Tensor:
        return torch.cat([self.outputs, self.popularity.unsqueeze(1)], 1)

    def known_user_vectors(self) -> Tensor | None:
        """What the tower makes of all that training knew of each user, whatever history_length is.

        Nothing that training gave to a user, so it tells only how the model does without what came after, as papers
        measure it.
        """
        return with_popularity(self.past() @ self.inputs) if self.past else None


def distinct_items(history: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's items in ascending order and which of them count.  history int64 [B, L], item_index + 1, 0 is padding.

    Returns item indices int64 [B, L], and float32 [B, L]: 1 at the first place of each item, 0 at repeats and padding.
    Sorted, since comparing all pairs of a history of 500 takes ten times as long.
    """
    ordered = history.sort(-1).values
    first = ordered != F.pad(ordered[:, :-1], (1, 0))  # padding equals the 0 put in front
    return (ordered - 1).clamp(min=0), first.float()


def factorise(weights: Tensor, matrix: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """P and Q, float32 [N, r], r = min(rank, N), with B ~ P Q'; exact for rank >= N.

    weights: B, float32 [N, N], dense or sparse.  matrix: X, sparse [U, N].  What is to be kept are the scores of
    users, X B, rather than B, whose entries weigh alike whether anyone has the item. The best P Q' of that rank is
    B V V' with V the first right singular vectors of X B (reduced-rank regression, Izenman 1975). They are found by
    subspace iteration from a random start (Halko et al. 2011, algorithm 4.4).
    """
    num_items = weights.shape[0]
    if rank >= num_items:
        return weights.to_dense(), torch.eye(num_items)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(num_items, min(rank + OVERSAMPLING, num_items), generator=generator)
    for _ in range(ROUNDS):
        scores = matrix @ (weights @ basis)  # [U, r]
        basis = torch.linalg.qr(weights.t() @ (matrix.t() @ scores)).Q
    scores = (matrix @ (weights @ basis)).double()
    strongest = torch.linalg.eigh(scores.T @ scores).eigenvectors[:, -rank:].float()
    outputs = basis @ strongest
    return weights @ outputs, outputs


def build(dataset: Dataset, options: LinearOptions, until_ms: int, seed: int) -> LinearTower:
    """Untrained; its popularity is as of until_ms."""
    rank = min(options.dim, dataset.num_items)
    past = partial(interaction_matrix, dataset, until_ms) if dataset.num_users * rank <= KNOWN_CELLS else None
    return LinearTower(popularity_column(dataset, until_ms), rank, options.history_length, past).eval()


def fit_linear(
    dataset: Dataset, options: LinearOptions, run: Fit, log: RunLog, item_weights: Callable[[Tensor], Tensor]
) -> LinearTower:
    """In closed form, so that there are no weights to start from.  item_weights: sparse [U, N] -> B [N, N].

    Raises ValueError when there is nothing to learn from.
    """
    log.start(run.stage, 2)
    matrix = interaction_matrix(dataset, run.until_ms)
    weights = item_weights(matrix)
    log.step(run.stage, 1, {})
    model = build(dataset, options, run.until_ms, run.seed)
    inputs, model.outputs = factorise(weights, matrix, options.dim, run.seed)
    # The order is the same on any scale, but the export compares user vectors by absolute differences, and BM25 makes
    # weights of hundreds: the training users' vectors get a mean square of 1.
    model.inputs = inputs / (matrix @ inputs).square().sum(1).mean().sqrt().clamp(min=1e-9)
    figures = {"validation": run.validate(model)} if run.validate else {}
    log.step(run.stage, 2, figures)
    log.finish(run.stage, f"{dataset.num_items:,} x {dataset.num_items:,} weights, rank {model.inputs.shape[1]}")
    return model
