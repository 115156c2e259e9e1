"""Matrix factorisation from pairs: an item of a user scores above one they have not (Rendle et al. 2009, "BPR")."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import checkpoint, losses
from models.data.dataset import Dataset
from models.distributed import BatchLoss, own_rows
from models.fitting import Fit, fit_steps
from models.hardware import device_of, placed
from models.options import BprOptions
from models.positives import Positives
from models.retrieval.edge_batches import EdgeBatches
from models.retrieval.linear import distinct_items
from models.retrieval.model import RetrievalModel
from models.retrieval.pairs import interaction_pairs, user_item_matrix
from models.run_log import RunLog
from models.sampling import Proposal, negatives

RIDGE = 1e-3  # of the fold-in, for each user it is learned from


class Bpr(RetrievalModel):
    """A score is w_u q_i + b_i. Item vectors are q and b, [N, d + 1], user vectors w and 1.

    The tower is a fold-in: w = (mean of the distinct items' q) turn + offset, the least squares that come nearest to
    the vectors of the users that were trained. Without a history the mean is zero, and w the offset: the average user.
    It ranks better than the plain mean, than a ridge regression onto the user's items, and than the trained vectors of
    known users, who have few pairs each to learn their own from (NDCG@10 on MovieLens-1M: users left out of training
    .201, mean .192, ridge .190; users in it .212, their own vectors .206).
    """

    turn: Tensor
    offset: Tensor

    def __init__(self, num_users: int, num_items: int, options: BprOptions) -> None:
        super().__init__()
        self.history_length = options.history_length
        self.users = nn.Parameter(torch.randn(num_users, options.dim) * options.init_std)
        self.items = nn.Parameter(torch.randn(num_items, options.dim) * options.init_std)
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.register_buffer("turn", torch.eye(options.dim))
        self.register_buffer("offset", torch.zeros(options.dim))

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        items, first = distinct_items(history)
        share = first / first.sum(-1, keepdim=True).clamp(min=1.0)
        mean = (share.unsqueeze(1) @ self.items[items]).squeeze(1)  # [B, 1, L] @ [B, L, d]
        return _with_one(mean @ self.turn + self.offset)

    def item_vectors(self) -> Tensor:
        return torch.cat([self.items, self.bias.unsqueeze(1)], 1)

    def known_user_vectors(self) -> Tensor:
        return _with_one(self.users)


def _with_one(users: Tensor) -> Tensor:
    return torch.cat([users, torch.ones_like(users[:, :1])], 1)


def build(dataset: Dataset, options: BprOptions, until_ms: int, seed: int) -> Bpr:
    torch.manual_seed(seed)
    return Bpr(dataset.num_users, dataset.num_items, options)


def fit(dataset: Dataset, options: BprOptions, run: Fit, log: RunLog) -> Bpr:
    """Raises ValueError when there is nothing to learn from, or everyone has every item."""
    pairs = interaction_pairs(dataset, run.until_ms)
    model = build(dataset, options, run.until_ms, run.seed)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    train(model, pairs, options, run, log)
    return model


def train(model: Bpr, pairs: Positives, options: BprOptions, run: Fit, log: RunLog) -> None:
    """In place; ends in evaluation mode. The fold-in is learned anew before every validation, and at the end."""
    matrix = user_item_matrix(pairs)
    judge = run.validate

    def validate(current: RetrievalModel) -> float:
        assert judge is not None
        learn_fold_in(model, matrix)
        return judge(current)

    task = BprTask(model, EdgeBatches(pairs, options.batch_size, run.seed), options)
    fit_steps(model, task, options, replace(run, validate=validate if judge else None), log)
    learn_fold_in(model, matrix)


def learn_fold_in(model: Bpr, matrix: Tensor) -> None:
    """Ridge regression of the users' vectors on the means of their items' vectors.  matrix: sparse [U, N], on the CPU,
    where it is solved."""
    with torch.no_grad():
        counts = torch.bincount(matrix.indices()[0], minlength=matrix.shape[0])
        known = counts > 0
        means = ((matrix @ model.items.cpu())[known] / counts[known].unsqueeze(1)).double()
        wanted = model.users.cpu()[known].double()
        center, target = means.mean(0), wanted.mean(0)
        means, wanted = means - center, wanted - target
        scale = means.square().mean().clamp(min=1e-12)  # so that the ridge means the same for short and long vectors
        ridge = RIDGE * scale * len(means) * torch.eye(means.shape[1], dtype=torch.float64)
        turn = torch.linalg.solve(means.T @ means + ridge, means.T @ wanted)
        model.turn.copy_(turn)  # in place: validation runs in inference mode, whose tensors could not be restored into
        model.offset.copy_(target - center @ turn)


class BprTask:
    """Each pair against items of its own that are none of the user's."""

    def __init__(self, model: Bpr, edges: EdgeBatches, options: BprOptions) -> None:
        self._model, self._edges, self._options = model, edges, options
        taken = np.bincount(edges.positives.pairs()[1], minlength=edges.positives.num_items).astype(np.float64)
        self._proposal = Proposal.of_popularity(taken, options.negatives_power)
        self.num_batches = len(edges)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        users, items = self._edges.batch(epoch, number)
        others = negatives(users, self._options.negatives, self._proposal, self._edges.positives, rng)
        rows = own_rows(len(users))
        device = device_of(self._model)
        user, item, other = (placed(array[rows], device) for array in (users, items, others))
        return BatchLoss(bpr_loss(self._model, user, item, other, self._options.l2), len(user))


def bpr_loss(model: Bpr, users: Tensor, items: Tensor, others: Tensor, l2: float) -> Tensor:
    """The loss of the pairs, and l2 times the mean squared length of a pair's vectors.

    users, items: int64 [b].  others: int64 [b, n].
    """
    user = F.embedding(users, model.users)
    item, other = (F.embedding(index, model.items) for index in (items, others))
    own_scores = (user * item).sum(-1) + model.bias[items]
    other_scores = (other * user.unsqueeze(1)).sum(-1) + model.bias[others]  # [b, n]; bmm is slower for so small ones
    lengths = user.square().sum(-1) + item.square().sum(-1) + other.square().sum(-1).mean(-1)
    return losses.bpr(own_scores, other_scores) + l2 * lengths.mean()
