"""iALS: matrix factorisation of implicit feedback by alternating least squares (Hu et al. 2008), with the unobserved
weight and the frequency-scaled regularisation of Rendle et al. 2021 ("Revisiting the Performance of iALS").

The loss over the observed pairs S of U users and N items, with n of S in a row or column:

sum over S of (1 - w_u h_i)^2 + a sum over all pairs of (w_u h_i)^2 + l sum_u (n_u + a N)^p |w_u|^2 + the same of items
"""

import torch
from torch import Tensor

from models import checkpoint
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import IalsOptions
from models.retrieval.fold_in import fold_in
from models.retrieval.linear import distinct_items
from models.retrieval.model import RetrievalModel
from models.retrieval.pairs import interaction_matrix
from models.retrieval.popularity import popularity_column, with_popularity
from models.run_log import RunLog

BATCH_CELLS = 2**22  # numbers in a batch of padded rows: 16 MB


class Ials(RetrievalModel):
    """The user tower is a fold-in: the least squares of one user, given the items, by conjugate gradient.

    items, users: float32 [N, d] and [U, d], turned so that items' items is diagonal (scores are the same), which makes
    the unobserved part of the fold-in an element-wise product.  spectrum: that diagonal, float32 [d].
    """

    items: Tensor
    users: Tensor
    spectrum: Tensor
    popularity: Tensor
    strengths: Tensor

    def __init__(self, popularity: Tensor, num_users: int, options: IalsOptions) -> None:
        super().__init__()
        self.history_length = options.history_length
        self.steps = options.fold_in_steps
        self.unobserved_weight = options.unobserved_weight
        self.register_buffer("items", torch.zeros(len(popularity), options.dim))
        self.register_buffer("users", torch.zeros(num_users, options.dim))
        self.register_buffer("spectrum", torch.zeros(options.dim))
        self.register_buffer("popularity", popularity, persistent=False)  # as of the moment it is used for
        counts = torch.arange(options.history_length + 1)
        self.register_buffer("strengths", regularization(counts, len(popularity), options), persistent=False)

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        items, first = distinct_items(history)
        strength = self.strengths[first.sum(-1, keepdim=True).long()]  # [B, 1]
        diagonal = self.unobserved_weight * self.spectrum + strength  # [B, d]
        return with_popularity(fold_in(self.items[items] * first.unsqueeze(-1), diagonal, self.steps))

    def item_vectors(self) -> Tensor:
        return torch.cat([self.items, self.popularity.unsqueeze(1)], 1)

    def known_user_vectors(self) -> Tensor:
        return with_popularity(self.users)


def regularization(counts: Tensor, num_others: int, options: IalsOptions) -> Tensor:
    """The weight of a row's squared length.  counts: observed pairs of each row, num_others: length of the rows."""
    frequency = counts.double() + options.unobserved_weight * num_others
    return (options.regularization * frequency**options.frequency_power).float()


def build(dataset: Dataset, options: IalsOptions, until_ms: int, seed: int) -> Ials:
    """Untrained; its popularity is as of until_ms."""
    return Ials(popularity_column(dataset, until_ms), dataset.num_users, options).eval()


def fit(dataset: Dataset, options: IalsOptions, run: Fit, log: RunLog) -> Ials:
    """Raises ValueError when there is nothing to learn from."""
    matrix = interaction_matrix(dataset, run.until_ms)
    model = build(dataset, options, run.until_ms, run.seed)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    else:
        start(model, options, run.seed)
    epochs = max(1, round(run.budget * options.max_epochs))
    log.start(run.stage, epochs)
    for epoch in range(epochs):
        improve(model, matrix, options)
        log.step(run.stage, epoch + 1, {"loss": loss(model, matrix, options)})
    finish(model, matrix, options)
    note = f", validation {run.validate(model):.4f}" if run.validate else ""
    log.finish(run.stage, f"{epochs} epochs{note}")
    return model


def start(model: Ials, options: IalsOptions, seed: int) -> None:
    """Small random item vectors; the first half step makes the users'."""
    generator = torch.Generator().manual_seed(seed)
    model.items = torch.randn(model.items.shape, generator=generator) * options.init_std / options.dim**0.5


def improve(model: Ials, matrix: Tensor, options: IalsOptions) -> None:
    """One epoch: the best users given the items, then the best items given the users.  matrix: sparse [U, N]."""
    users, items = matrix.indices()
    model.users = solve(users, items, len(model.users), model.items, options)
    order = torch.argsort(items, stable=True)
    model.items = solve(items[order], users[order], len(model.items), model.users, options)


def finish(model: Ials, matrix: Tensor, options: IalsOptions) -> None:
    """Turn the vectors so that the items' Gram matrix is diagonal, and solve for the users once more."""
    items = model.items.double()
    spectrum, turn = torch.linalg.eigh(items.T @ items)
    model.items, model.spectrum = (items @ turn).float(), spectrum.clamp(min=0.0).float()
    users, taken = matrix.indices()
    model.users = solve(users, taken, len(model.users), model.items, options)


def solve(rows: Tensor, columns: Tensor, num_rows: int, others: Tensor, options: IalsOptions) -> Tensor:
    """The half step: row vectors [num_rows, d] with the least loss, given the vectors of the columns, others [C, d].

    rows, columns: int64 [n], the observed pairs, rows ascending. For each row with the columns S the solution of

    (sum over S of v v' + unobserved_weight others'others + strength I) x = sum over S of v
    """
    counts = torch.bincount(rows, minlength=num_rows)
    begins = counts.cumsum(0) - counts
    strengths = regularization(counts, len(others), options)
    gram = options.unobserved_weight * (others.T @ others)
    dim = others.shape[1]
    solved = torch.zeros(num_rows, dim)
    longest_first = torch.argsort(counts, descending=True, stable=True)[: int((counts > 0).sum())]
    begin = 0
    while begin < len(longest_first):
        length = int(counts[longest_first[begin]])
        batch = longest_first[begin : begin + max(1, BATCH_CELLS // (dim * (length + dim)))]
        begin += len(batch)
        places = torch.arange(length)
        real = places < counts[batch].unsqueeze(1)  # [b, length]
        taken = columns[torch.where(real, begins[batch].unsqueeze(1) + places, 0)]
        vectors = others[taken] * real.unsqueeze(-1)  # [b, length, d]
        system = vectors.mT @ vectors + gram + torch.diag_embed(strengths[batch].unsqueeze(1).expand(-1, dim))
        factor = torch.linalg.cholesky(system)
        solved[batch] = torch.cholesky_solve(vectors.sum(1).unsqueeze(-1), factor).squeeze(-1)
    return solved


def loss(model: Ials, matrix: Tensor, options: IalsOptions) -> float:
    """What the half steps minimise, summed over all pairs."""
    users, items = matrix.indices()
    observed = 1.0 - (model.users[users] * model.items[items]).sum(1)
    everywhere = ((model.users.T @ model.users) * (model.items.T @ model.items)).sum()
    total = observed.square().sum() + options.unobserved_weight * everywhere
    for vectors, rows, others in ((model.users, users, model.items), (model.items, items, model.users)):
        strengths = regularization(torch.bincount(rows, minlength=len(vectors)), len(others), options)
        total += (strengths * vectors.square().sum(1)).sum()
    return float(total)
