"""Batches of user-item edges, and the loss of an edge: what models that propagate over the graph learn from."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.hardware import placed
from models.losses import widened
from models.positives import Positives
from models.sampling import accidental_positives


class EdgeBatches:
    """The distinct user-item edges, in another random order each epoch.

    taken_items: int64, items that someone has. The others are nothing to learn from as negatives: nobody refused them.
    Users who have every item are left out: nothing can be set against their items.
    """

    def __init__(self, positives: Positives, batch_size: int, seed: int) -> None:
        """Raises ValueError where there is no edge to learn from."""
        users, items = positives.pairs()
        kept = positives.counts[users] < positives.num_items
        if not kept.any():
            raise ValueError("no interactions to train on: everyone has every item")
        self.positives = positives
        self.taken_items = np.unique(items)
        self._users, self._items = users[kept], items[kept]
        self._batch_size, self._seed = batch_size, seed
        self._epoch = -1

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._users) // self._batch_size)

    def batch(self, epoch: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Users and items int64 [b] each."""
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, order.permutation(len(self._users))
        chosen = self._order[number * self._batch_size : (number + 1) * self._batch_size]
        return self._users[chosen], self._items[chosen]

    def draw_items(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items int64 [count] that someone has, each as likely as any other."""
        return rng.choice(self.taken_items, count)


def edges_softmax(
    user_vectors: Tensor,
    item_vectors: Tensor,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    negatives: NDArray[np.int64],
    positives: Positives,
) -> Tensor:
    """Softmax cross-entropy of each edge's item against shared, uniformly drawn negatives (Wu et al. 2022).

    user_vectors [U, d], item_vectors [N, d]; users, items: int64 [b], the edges; negatives: int64 [n]. A negative that
    is an item of the user is masked. The sum over negatives is the same for all edges of a user and made once.
    """
    distinct_users, row = np.unique(users, return_inverse=True)
    device = user_vectors.device
    vectors = user_vectors[placed(distinct_users, device)]
    logits = widened(vectors @ item_vectors[placed(negatives, device)].T)  # [distinct users, n]
    known = placed(accidental_positives(distinct_users, negatives, positives), device)
    others = logits.masked_fill(known, -1e4).logsumexp(1)
    rows = placed(row, device)
    own = (vectors[rows] * item_vectors[placed(items, device)]).sum(-1)
    return F.softplus(others[rows] - own).mean()
