"""The compression report: plain frozen data, and its JSON."""

from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from export.compression.requests import Asked, ndcg
from export.measure import mean_overlap
from models.bootstrap import Interval, paired_interval
from models.targets import Mode, Targets

REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ListFigures:
    """ndcg: NDCG@10.  change: of it, over that of the reference, with the paired 95 % interval; undefined where the
    reference finds nothing.  overlap: mean share of the reference's top 10 that is also in this variant's."""

    ndcg: float
    change: Interval
    overlap: float


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """auc_change: difference from the reference.  calibration_error, predicted_over_actual: see
    models.report.RankerResult."""

    auc: float
    auc_change: float
    calibration_error: float
    predicted_over_actual: float


@dataclass(frozen=True, slots=True)
class RankerRow:
    """made: what was done, besides the precision.  parameters: of the torch model.  item_bytes: of the items' rows.
    user_us, head_us: CPU time of one request with 200 candidates.  rows_changed: output rows of both graphs that are
    not the same alone and in a batch, of those tried."""

    variant: str
    made: list[str]
    parameters: int
    graph_bytes: int
    item_bytes: int
    user_us: float
    head_us: float
    rows_changed: int
    rows_tried: int
    lists: dict[Mode, ListFigures]
    scores: dict[Mode, ScoreFigures]

    @property
    def request_us(self) -> float:
        return self.user_us + self.head_us


@dataclass(frozen=True, slots=True)
class TowerRow:
    """The user vector against the whole catalogue.  item_bytes: of the item vectors.  request_us: CPU time of the
    tower for one request."""

    variant: str
    made: list[str]
    parameters: int
    graph_bytes: int
    item_bytes: int
    request_us: float
    rows_changed: int
    rows_tried: int
    lists: dict[Mode, ListFigures]


@dataclass(frozen=True, slots=True)
class BundleRow:
    """A whole bundle as served.  sizes: bytes by part.  private_bytes: memory of a service process after requests of
    64 users, with those pages of the mapped tables that they read; bundle_bytes: how much of it came with the bundle
    and the requests.  request_us: CPU time of the flow for one request, without the network and the feature store.
    These three are undefined where they could not be measured."""

    variant: str
    sizes: dict[str, int]
    private_bytes: float
    bundle_bytes: float
    request_us: float
    lists: dict[Mode, ListFigures]

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


@dataclass(frozen=True, slots=True)
class CompressionReport:
    """training_key, fingerprint: of the teacher and its data.  models: the compressed models measured, with the key of
    each.  num_users: lists by mode."""

    training_key: str
    fingerprint: str
    seed: int
    models: dict[str, str]
    num_users: dict[Mode, int]
    rankers: list[RankerRow]
    towers: list[TowerRow]
    bundles: list[BundleRow]
    left_out: list[str] = field(default_factory=list)
    version: int = REPORT_VERSION

    def to_json(self) -> bytes:
        """UTF-8 JSON, indented; an undefined number is null."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def list_figures(lists: NDArray[np.int64], reference: NDArray[np.int64], targets: Targets, seed: int) -> ListFigures:
    """lists, reference: int64 [R, 10], padded with -1, for the rows of the targets."""
    values, before = ndcg(lists, targets), ndcg(reference, targets)
    return ListFigures(
        float(values.mean()), paired_interval(values, before, seed).relative, mean_overlap(reference, lists)
    )


def all_list_figures(
    lists: dict[Mode, NDArray[np.int64]], reference: dict[Mode, NDArray[np.int64]], asked: Asked, seed: int
) -> dict[Mode, ListFigures]:
    return {mode: list_figures(lists[mode], reference[mode], asked.targets[mode], seed) for mode in asked.targets}
