"""Every part of a bundle in the form that it ships in, and what all of them together lose."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from export.choose_table import Chosen
from export.profile import ExportProfile, NeighbourLists
from export.quality import Requests
from export.served import Served, in_all_gates, ship_neighbours, with_tower
from export.ship import Shipped, ShippedRanker, ship_ranker, ship_tower
from export.ship_tables import ship_vectors
from models.contract.features import ItemTables
from models.contract.manifest import Gate
from models.contract.tables import RowTable
from models.data.dataset import Dataset
from models.trained import Trained

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """in_all: what everything together lost.  missed: of that, what parts chosen by less strict limits failed in."""

    vectors: Chosen[RowTable]
    tower: Shipped
    ranker: ShippedRanker | None
    neighbours: Chosen[tuple[NeighbourLists, ItemTables]]
    in_all: list[Gate]
    missed: list[Gate] = field(default_factory=list)

    @property
    def gates(self) -> list[Gate]:
        """Of each part, then of all together."""
        ranker = self.ranker.gates if self.ranker else []
        return [*self.vectors.gates, *self.tower.gates, *ranker, *self.neighbours.gates, *self.in_all]


def choose_parts(dataset: Dataset, trained: Trained, asked: Requests, profile: ExportProfile, on_step: OnStep) -> Parts:
    """The parts by the first of the profile's limits with which all together pass, or by the last."""
    missed: list[Gate] = []
    for attempt in profile.attempts():
        if missed:
            on_step("tables")  # once more
        parts = _parts(dataset, trained, asked, attempt, on_step)
        failed = [gate for gate in parts.in_all if not gate.passed]
        if not failed:
            break
        missed += failed
    return replace(parts, missed=missed)


def _parts(dataset: Dataset, trained: Trained, asked: Requests, profile: ExportProfile, on_step: OnStep) -> Parts:
    vectors = ship_vectors(asked, profile)
    on_step("user tower")
    tower = ship_tower(trained.retrieval, asked, profile)
    on_step("ranker")
    ranker = ship_ranker(dataset, trained, trained.ranker, asked, profile) if trained.ranker is not None else None
    on_step("neighbours")
    info = ranker.content.info if ranker else None
    exported = replace(with_tower(asked.retrieval, tower.graph), item_vectors=vectors.form[:])
    served = Served(exported, ranker.parts if ranker else None, info)
    neighbours = ship_neighbours(dataset, asked, served, profile)
    plain = Served(asked.retrieval, ranker.plain if ranker else None, info)
    in_all = in_all_gates(dataset, asked, plain, served.with_tables(neighbours.form[1]), profile)
    return Parts(vectors, tower, ranker, neighbours, in_all)
