"""The interactions: judged, cut into parts, and at last in their total order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import TypeVar

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from models.contract.schema import CategoricalFeature
from models.data.archive import ArchivedLog, read_archive
from models.data.clean import below_reason, count_rows, judge_interactions, require_good
from models.data.config import Config
from models.data.dataset import Splits
from models.data.encode import encode_values, make_vocabulary, positions
from models.data.errors import BadRowsError, SourceError
from models.data.interactions import Interactions
from models.data.report import SourceReport
from models.data.sources import read_source
from models.data.split import TEST, split

Scalar = TypeVar("Scalar", bound=np.generic)
MAX_EVENT_TYPES = 64


@dataclass(frozen=True, slots=True)
class Log:
    """table: the good interactions and archived events, with `part`, in no order.  event_types: sorted."""

    table: ir.Table
    splits: Splits
    source: SourceReport
    archive: ArchivedLog | None
    event_types: list[str]

    @property
    def num_good(self) -> int:
        sources = [self.source, *([self.archive.source] if self.archive else [])]
        return sum(map(_num_used, sources))


@dataclass(frozen=True, slots=True)
class OrderedLog:
    """interactions and part uint8 [M] in the total order; context_features of features.context."""

    interactions: Interactions
    part: NDArray[np.uint8]
    context_features: list[CategoricalFeature]
    rare: dict[str, int]


def read_log(connection: Backend, config: Config, archived: Sequence[Path]) -> Log:
    """Read, judge and split the interactions and the archived events. Raises SourceError or BadRowsError."""
    section = config.log
    if archived and config.split.kind != "time":
        raise SourceError(
            f"{archived[0].parent}: archived events have real times, and a {config.split.kind} split has none; "
            'set [split] kind = "time", or prepare in another data folder'
        )
    judged = judge_interactions(read_source(connection, section.path), section, timed=config.split.kind != "random")
    judged = connection.create_table("judged", judged, temp=True)
    optional = {"event_type": section.event_type, "value": section.value}
    optional |= {f"context_{i}": name for i, name in enumerate(section.context)}
    optional |= {f"numeric_{i}": name for i, name in enumerate(section.numeric)}
    missing = {name: judged[column].isnull() for column, name in optional.items() if name}
    source = count_rows(connection, judged, missing, below_reason(section))
    require_good(source, section.path, config.limits.max_bad_share)
    if not _num_used(source):
        raise BadRowsError(f"{section.path}: no row is left: {below_reason(section)}; lower interactions.min_value")
    filled = {"event_type": section.default_event_type, "value": 0.0}
    filled |= {f"numeric_{i}": 0.0 for i in range(len(section.numeric))}
    good = judged.filter(judged.reason.isnull())
    archive = read_archive(connection, config, archived)
    if archive is not None:
        good = good.union(archive.table)
    good = good.drop("reason").fill_null(filled)
    table, splits = split(connection, good, config.split)
    table = connection.create_table("log", table, temp=True)
    return Log(table, splits, source, archive, _event_types(connection, table, config))


def order_log(connection: Backend, config: Config, log: Log, items: ir.Table, users: ir.Table) -> OrderedLog:
    """Those whose item is kept, by (user_index, time_ms, item_index, event_type) and then by all other columns.

    items, users: tables (id, index) of what is kept.
    """
    section = config.log
    joined = log.table.inner_join(items.rename(item_index="index"), [("item_id", "id")])
    joined = joined.inner_join(users.rename(user_index="index"), [("user_id", "id")])
    contexts = [f"context_{i}" for i in range(len(section.context))]
    numbers = [f"numeric_{i}" for i in range(len(section.numeric))]
    keys = ["user_index", "time_ms", "item_index", "event_type", "value", *contexts, *numbers]
    rows = connection.to_pyarrow(joined.select(*keys, "part").order_by(keys))
    part = _numpy(rows, "part", np.uint8)
    names = section.context
    coded = list(starmap(lambda i, name: _encode_context(config, name, rows[f"context_{i}"], part), enumerate(names)))
    return OrderedLog(
        interactions=Interactions(
            user_index=_numpy(rows, "user_index", np.int32),
            item_index=_numpy(rows, "item_index", np.int32),
            time_ms=_numpy(rows, "time_ms", np.int64),
            event_type=positions(rows["event_type"], log.event_types).astype(np.uint8),
            value=_numpy(rows, "value", np.float32),
            context={name: codes for name, (_, codes, _) in zip(names, coded, strict=True)},
            numeric={name: _numpy(rows, f"numeric_{i}", np.float32) for i, name in enumerate(section.numeric)},
        ),
        part=part,
        context_features=[feature for feature, _, _ in coded if feature.name in config.features.context],
        rare={feature.name: num_rare for feature, _, num_rare in coded if num_rare},
    )


def _encode_context(
    config: Config, name: str, values: pa.ChunkedArray, part: NDArray[np.uint8]
) -> tuple[CategoricalFeature, NDArray[np.int32], int]:
    """A context that is a feature has the vocabulary of before the test split; any other, of all its values."""
    if name in config.features.context:
        known = values.filter(pa.array(part < TEST))
        vocabulary, num_rare = make_vocabulary(known, config.features.context_min_count)
    else:
        vocabulary, num_rare = make_vocabulary(values, 1)
    return CategoricalFeature(name=name, vocabulary=vocabulary), encode_values(values, vocabulary), num_rare


def _num_used(source: SourceReport) -> int:
    return source.rows - source.num_bad - sum(source.left_out.values())


def _event_types(connection: Backend, table: ir.Table, config: Config) -> list[str]:
    found = connection.to_pyarrow(table.select("event_type").distinct()).column(0).to_pylist()
    types = sorted({*found, *config.events.types})
    path = config.log.path
    if len(types) > MAX_EVENT_TYPES:
        raise SourceError(
            f"{path}: {len(types)} event types, at most {MAX_EVENT_TYPES}; is event_type the right column?"
        )
    for name in config.events.seen:
        if name not in types:
            raise SourceError(
                f"events.seen: {name!r} is not an event type of {path} ({', '.join(types)}) or events.types"
            )
    return types


def _numpy(rows: pa.Table, column: str, dtype: type[Scalar]) -> NDArray[Scalar]:
    array: NDArray[Scalar] = rows[column].to_numpy().astype(dtype, copy=False)
    return array
