"""The figure that early stopping of the retrieval model watches."""

from collections.abc import Callable

import numpy as np
import torch

from models import metrics
from models.contract.user_inputs import FEATURES, HISTORY, user_inputs
from models.data.dataset import Dataset
from models.distributed import own_rows, total
from models.hardware import placed
from models.offline import moments, seen_items
from models.options import SasRecOptions, TrainSection, TwoTowerOptions
from models.retrieval.model import RetrievalModel
from models.targets import Mode, Window, window_targets

MAX_USERS = 2000
BATCH = 128


def retrieval_mode(options: TrainSection) -> Mode:
    """What retrieval is validated on: a model that is not taught repeats is not asked for them."""
    retrieval = options.retrieval
    return "all" if isinstance(retrieval, SasRecOptions | TwoTowerOptions) and retrieval.repeat_weight else "new"


def validator(dataset: Dataset, window: Window, mode: Mode, history_length: int) -> Callable[[RetrievalModel], float]:
    """NDCG@10 of the model alone over the whole catalogue, for at most MAX_USERS users of the window.

    Mode `new`: without the items that the user has seen. Several processes share the users. Raises ValueError when the
    window has no targets.
    """
    targets = window_targets(dataset, window, mode)
    if not len(targets):
        what = "a new item" if mode == "new" else "an item"
        raise ValueError(f"nobody known before the window {window.name!r} took {what} in it; use more data")
    rows = np.linspace(0, len(targets) - 1, min(MAX_USERS, len(targets))).astype(np.int64)
    rows = rows[own_rows(len(rows))]
    whos = moments(dataset, targets.users[rows].tolist(), window.start_ms)
    seen = [seen_items(who.state, np.asarray(dataset.item_hashes)) for who in whos]
    features = [who.features(dataset.schema) for who in whos]
    histories = [who.history for who in whos]
    # of few users a process may have none
    inputs = user_inputs((*HISTORY, *FEATURES), history_length, histories, features) if len(rows) else {}
    wanted = [targets.items[targets.offsets[row] : targets.offsets[row + 1]] for row in rows]
    counts = np.array([len(row) for row in wanted], np.int64)

    def figure(model: RetrievalModel) -> float:
        vectors = model.item_vectors()
        hits = np.zeros((len(rows), 10), np.bool_)
        for start in range(0, len(rows), BATCH):
            chunk = slice(start, min(start + BATCH, len(rows)))
            users = model(*(placed(inputs[name][chunk], vectors.device) for name in model.tower_inputs))
            scores = users @ vectors.T  # [B, N]
            for offset, row in enumerate(range(chunk.start, chunk.stop)):
                if mode == "new":
                    scores[offset, placed(seen[row], vectors.device)] = -torch.inf
                found = scores[offset].topk(min(10, len(vectors))).indices.cpu().numpy()
                hits[row, : len(found)] = np.isin(found, wanted[row])
        summed, users = total(np.array([metrics.ndcg(hits, counts, 10).sum(), len(rows)])).tolist()
        return float(summed / users)

    return figure
