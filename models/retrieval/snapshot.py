"""A trained retrieval model with its tables, as they stood at one moment."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.baselines import most_popular
from models.contract.features import ItemTables
from models.data.dataset import Dataset
from models.neighbours import item_neighbours
from models.offline import Retrieval
from models.retrieval.model import RetrievalModel


def affinity_table(dataset: Dataset) -> NDArray[np.int32]:
    """Codes of the features in schema.affinity, int32 [N, a]."""
    names = [feature.name for feature in dataset.schema.categorical("item")]
    columns = [names.index(name) for name in dataset.schema.affinity]
    return np.ascontiguousarray(dataset.item_categorical[:, columns], np.int32)


def item_tables(dataset: Dataset, at_ms: int) -> ItemTables:
    past = dataset.interactions.before(at_ms)
    neighbours, similarity = item_neighbours(past, dataset.num_users, dataset.num_items)
    return ItemTables(neighbours, similarity, affinity_table(dataset))


def snapshot(dataset: Dataset, model: RetrievalModel, at_ms: int) -> Retrieval:
    """The model as candidate generation sees it; item-to-item neighbours and popularity know what came before at_ms."""
    model.eval()

    def tower(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors: NDArray[np.float32] = model(
                *(torch.from_numpy(inputs[name]) for name in model.tower_inputs)
            ).numpy()
        return vectors

    with torch.inference_mode():
        item_vectors = model.item_vectors().numpy()
    return Retrieval(
        tower=tower,
        history_length=model.history_length,
        item_hashes=np.asarray(dataset.item_hashes),
        item_vectors=item_vectors,
        tables=item_tables(dataset, at_ms),
        popular=most_popular(dataset.interactions.before(at_ms), dataset.num_items, at_ms),
        tower_inputs=model.tower_inputs,
    )
