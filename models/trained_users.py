"""The retrieval model as papers measure it: every user of the data has the vector that training gave them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.baselines import UserLog
from models.offline import exact_nearest
from models.targets import Mode


@dataclass(frozen=True, slots=True)
class TrainedUsers:
    """A system for comparing with published figures; serving makes user vectors from histories instead.

    user_vectors: float32 [U, d].  item_vectors: float32 [N, d].  split_ms: what a user took before is left out in
    mode `new`.
    """

    user_vectors: NDArray[np.float32]
    item_vectors: NDArray[np.float32]
    log: UserLog
    split_ms: int

    def __call__(self, users: NDArray[np.int64], mode: Mode, k: int) -> NDArray[np.int64]:
        """Lists int64 [U, k], padded with -1."""
        lists = np.full((len(users), k), -1, np.int64)
        for row, user in enumerate(users.tolist()):
            allowed = np.ones(len(self.item_vectors), np.bool_)
            if mode == "new":
                allowed[self.log.history(user, self.split_ms).items] = False
            items = exact_nearest(self.item_vectors, self.user_vectors[user], allowed, k)
            lists[row, : len(items)] = items
        return lists
