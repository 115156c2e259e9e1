"""What a bundle is made for: the default keeps every number that costs nothing to keep, edge is as small as its gates
allow."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from export.gates import MAX_NDCG_LOSS, MIN_OVERLAP
from models.contract.manifest import Profile
from models.contract.tables import Precision, SimilarityPrecision


class Limits(NamedTuple):
    """ndcg_loss: relative, of NDCG@10, at most.  overlap: mean share of the top 10 that stays, at least."""

    ndcg_loss: float = MAX_NDCG_LOSS
    overlap: float = MIN_OVERLAP


class NeighbourLists(NamedTuple):
    """per_item: how many are kept on average, None for all.  precision: of their similarities."""

    per_item: int | None
    precision: SimilarityPrecision


EACH = Limits()


class Components(NamedTuple):
    """int8 codes of the rows' principal components.  max_residual: share of their spread that may be left out."""

    max_residual: float


RowForm = Precision | Components


@dataclass(frozen=True, slots=True)
class ExportProfile:
    """Forms of each table, the smallest first: the first one inside the limits ships, and the last one in any case.

    vectors: of the item vectors.  item_rows: of the ranker's item rows.  embeddings: inside the graphs.
    limits: of a part.  in_all: of everything together against the models in float32; each part may at first lose as
    much, and `limits` hold where that is too much in sum. None where `limits` alone suffice.
    smallest_index: the smallest index that passes its gate; otherwise the fastest.
    """

    name: Profile
    vectors: tuple[Precision, ...] = ("fp32",)
    item_rows: tuple[RowForm, ...] = ("fp32",)
    embeddings: tuple[Precision, ...] = ("fp32",)
    neighbours: tuple[NeighbourLists, ...] = (NeighbourLists(None, "fp32"),)
    limits: Limits = EACH
    in_all: Limits | None = None
    smallest_index: bool = False

    def attempts(self) -> Iterator["ExportProfile"]:
        """The profile with the limits that a part is judged by, in the order in which they are tried."""
        if self.in_all is not None:
            yield replace(self, limits=self.in_all)
        yield self


SMALLER: tuple[Precision, ...] = ("int8", "fp16", "fp32")
PROFILES: dict[Profile, ExportProfile] = {
    "default": ExportProfile("default"),
    "edge": ExportProfile(
        "edge",
        vectors=SMALLER,
        item_rows=(Components(0.1), Components(0.05), *SMALLER),
        embeddings=SMALLER,
        neighbours=(NeighbourLists(20, "fp8"), NeighbourLists(None, "fp8"), NeighbourLists(None, "fp32")),
        limits=Limits(overlap=0.85),  # other items of the same worth may take a place
        in_all=Limits(0.01, 0.80),
        smallest_index=True,
    ),
}
