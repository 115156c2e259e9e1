"""The result of an evaluation: plain frozen data, JSON that stays the same from version to version.

`docs/evaluation.md` describes every field. Metric names are `<metric>@<k>`; an undefined number is null.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from models.bootstrap import CONFIDENCE, NUM_RESAMPLES, Interval, Paired
from models.targets import Mode

REPORT_VERSION = 1
DIGITS = 6  # below this the order of a sum shows, and two runs would differ

Unit = Literal["window", "basket"]


@dataclass(frozen=True, slots=True)
class SystemResult:
    """metrics: mean over users, with its interval, by metric.  coverage: share of the catalogue, by k.

    versus: by reference system, then by metric, the paired difference from it.
    """

    metrics: dict[str, Interval]
    coverage: dict[str, float]
    versus: dict[str, dict[str, Paired]]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    count: int
    predicted: float
    actual: float


@dataclass(frozen=True, slots=True)
class RankerResult:
    """How a ranker's probabilities meet what happened, over the candidates it was given.

    user_auc: mean over the users with both a positive and a negative candidate.  log_loss_constant: that of the
    constant probability equal to the share of positives, which a useful ranker beats.
    """

    num_candidates: int
    num_positives: int
    auc: float
    user_auc: Interval
    num_users_auc: int
    log_loss: float
    log_loss_constant: float
    calibration_error: float
    predicted_over_actual: float
    bins: list[CalibrationBin]


@dataclass(frozen=True, slots=True)
class Section:
    """One unit in one mode. num_rows is the number of lists: users for a window, baskets for the basket unit."""

    unit: Unit
    mode: Mode
    num_users: int
    num_rows: int
    num_targets: int
    recall_ceiling: dict[str, float]
    systems: dict[str, SystemResult]
    rankers: dict[str, RankerResult]


@dataclass(frozen=True, slots=True)
class Report:
    """training_key: of the models that were measured, "" for none.  ks: list lengths, ascending.
    references: the systems that paired intervals are against.  left_out: units and modes that there are no targets in.
    per_user: what the means are of, not part of the JSON: `<unit>/<mode>/users` int64 [U], ascending, and
    `<unit>/<mode>/<system>/<metric>` float64 [U]. So two reports on the same window can be compared user by user.
    """

    fingerprint: str
    window: str
    start_ms: int
    end_ms: int
    num_items: int
    ks: list[int]
    seed: int
    references: list[str]
    sections: list[Section]
    left_out: list[str] = field(default_factory=list)
    num_resamples: int = NUM_RESAMPLES
    confidence: float = CONFIDENCE
    version: int = REPORT_VERSION
    training_key: str = ""
    per_user: dict[str, NDArray[np.int64] | NDArray[np.float64]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def section(self, mode: Mode, unit: Unit = "window") -> Section:
        """Raises KeyError if the report has no such section."""
        for section in self.sections:
            if (section.mode, section.unit) == (mode, unit):
                return section
        raise KeyError(f"the report has no section of unit {unit!r} and mode {mode!r}; name them in the evaluation")

    def to_json(self) -> bytes:
        """UTF-8 JSON, indented, numbers rounded to six digits after the point."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        plain = asdict(replace(self, per_user={}))
        del plain["per_user"]
        return orjson.dumps(_rounded(plain), option=options)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    # orjson writes NaN as null
    return round(value, DIGITS) if isinstance(value, float) else value
