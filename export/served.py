"""What a request would be answered with, by everything that ships: its tables, its vectors and its graphs together."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from export.choose_table import Chosen, smallest
from export.gates import Lost, loss_gates
from export.graphs import open_session, run
from export.neighbours import compact_neighbours
from export.profile import ExportProfile, NeighbourLists
from export.quality import K, RankingParts, Requests, compare, padded, ranked_lists, ranked_requests
from models.contract.features import ItemTables
from models.contract.manifest import Gate, RankingInfo
from models.data.dataset import Dataset
from models.offline import Retrieval, candidates, user_vectors


@dataclass(frozen=True, slots=True)
class Served:
    """retrieval: tower, vectors and tables.  ranking: None where the retrieval order is served."""

    retrieval: Retrieval
    ranking: RankingParts | None
    info: RankingInfo | None

    def with_tables(self, tables: ItemTables) -> "Served":
        return replace(self, retrieval=replace(self.retrieval, tables=tables))

    def lists(self, dataset: Dataset, asked: Requests) -> NDArray[np.int64]:
        """The best K of each request with seen items and without, int64 [2 Q, K]."""
        vectors = user_vectors(dataset.schema, self.retrieval, asked.moments)
        own = replace(asked, retrieval=self.retrieval, vectors=vectors)
        if self.ranking is None or self.info is None:
            found = [
                candidates(self.retrieval, who, vector, include_seen)
                for who, vector in zip(own.moments, vectors, strict=True)
                for include_seen in (True, False)
            ]
            return padded([one.items[np.argsort(-one.scores, kind="stable")[:K]] for one in found])
        names = [tensor.name for tensor in self.info.tensors]
        num_cross, history_length = len(self.info.cross_features), self.info.history_length
        return ranked_lists(ranked_requests(dataset, own, num_cross, names, history_length), self.ranking)


def with_tower(retrieval: Retrieval, graph: bytes) -> Retrieval:
    """The same with the exported user tower in place of the torch model."""
    session = open_session(graph)
    return replace(retrieval, tower=lambda inputs: run(session, inputs))


def ship_neighbours(
    dataset: Dataset, asked: Requests, served: Served, profile: ExportProfile
) -> Chosen[tuple[NeighbourLists, ItemTables]]:
    """The neighbours in the smallest form inside the limits, judged by the lists that are served with them."""
    tables = served.retrieval.tables
    whole = (NeighbourLists(None, "fp32"), compact_neighbours(tables, NeighbourLists(None, "fp32")))
    before = cache(lambda: served.lists(dataset, asked))  # a profile that leaves the table alone need not know

    def lost(form: tuple[NeighbourLists, ItemTables]) -> Lost:
        return _lost(asked, before(), served.with_tables(form[1]).lists(dataset, asked))

    forms = [(form, compact_neighbours(tables, form)) for form in profile.neighbours if form != whole[0]]
    named = [(_name(*form), form) for form in forms]
    return smallest("neighbours", named, (_name(*whole), whole), profile.limits, lost)


def in_all_gates(
    dataset: Dataset, asked: Requests, plain: Served, shipped: Served, profile: ExportProfile
) -> list[Gate]:
    """Everything that ships against the models in float32."""
    if profile.in_all is None:
        return []
    lost = _lost(asked, plain.lists(dataset, asked), shipped.lists(dataset, asked))
    return loss_gates(profile.name, "in all", lost, *profile.in_all)


def _lost(asked: Requests, before: NDArray[np.int64], after: NDArray[np.int64]) -> Lost:
    return compare(asked, before, after, np.repeat(np.arange(len(asked.users)), 2).tolist())


def _name(form: NeighbourLists, tables: ItemTables) -> str:
    if form.per_item is not None:
        return f"{form.precision}, {form.per_item} an item on average"
    return f"{form.precision}, {tables.neighbours.shape[1]} an item"
