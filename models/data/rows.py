"""The tables of items and users: read and judged, then laid out in the order of the indices."""

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from models.data.clean import count_rows, judge_ids, number_reason, require_good
from models.data.config import Config
from models.data.encode import feature_values
from models.data.errors import SourceError
from models.data.feature_columns import ItemFeatureColumn, NumericColumn
from models.data.item_values import vector_reason
from models.data.log import Log
from models.data.report import SourceReport
from models.data.sources import id_column, read_source, require_columns
from models.data.split import TEST

_SHOWN = 3  # examples in an error


@dataclass(frozen=True, slots=True)
class Rows:
    """table: id, feature_0.. and extra_0.., one row an id."""

    table: ir.Table
    source: SourceReport


@dataclass(frozen=True, slots=True)
class Arranged:
    """Kept ids and their columns in the order of the index.

    index: table (id, index) in the database.  columns: arrow table of what `Rows` has, null where an id has no row.
    """

    index: ir.Table
    columns: pa.Table
    num_without_row: int


def read_rows(
    connection: Backend,
    config: Config,
    path: str,
    id_name: str,
    features: Sequence[ItemFeatureColumn],
    extra: Sequence[str],
) -> Rows:
    """Raises SourceError for a missing column or an id that has two rows, BadRowsError for too many bad rows."""
    table = read_source(connection, path, [id_name])
    require_columns(table, path, [id_name, *(feature.name for feature in features), *extra])
    columns = feature_values(table, path, features) | {f"extra_{i}": table[name] for i, name in enumerate(extra)}
    numbers = [feature.name for feature in features if isinstance(feature, NumericColumn)]
    rows = table.select(id=id_column(table, path, id_name), wrong_number=number_reason(table, path, numbers), **columns)
    judged = judge_ids(rows, id_name)
    reason = ibis.coalesce(judged.reason, judged.wrong_number, vector_reason(judged, features))
    judged = judged.mutate(reason=reason).drop("wrong_number")
    judged = connection.create_table(ibis.util.gen_name("rows"), judged, temp=True)
    missing = {feature.name: judged[f"feature_{i}"].isnull() for i, feature in enumerate(features)}
    source = count_rows(connection, judged, missing)
    require_good(source, path, config.limits.max_bad_share)
    good = judged.filter(judged.reason.isnull()).drop("reason")
    _require_unique(connection, good, path, id_name)
    return Rows(good, source)


def count_users(connection: Backend, log: Log) -> dict[str, int]:
    """Distinct users of every item of the log before the test split; 0 for an item that came later."""
    users = ibis.ifelse(log.table.part < TEST, log.table.user_id, ibis.null("string")).nunique()
    counted = connection.to_pyarrow(log.table.group_by("item_id").agg(users=users))
    return dict(zip(counted["item_id"].to_pylist(), counted["users"].to_pylist(), strict=True))


def user_activity(connection: Backend, log: Log) -> dict[str, bool]:
    """Every user of the log, and whether they did anything before the test split."""
    first = connection.to_pyarrow(log.table.group_by("user_id").agg(part=log.table.part.min()))
    return {
        user: part < TEST for user, part in zip(first["user_id"].to_pylist(), first["part"].to_pylist(), strict=True)
    }


def listed_ids(connection: Backend, rows: Rows | None) -> list[str]:
    return connection.to_pyarrow(rows.table.select("id")).column(0).to_pylist() if rows else []


def arrange(connection: Backend, ids: list[str], rows: Rows | None) -> Arranged:
    """Lay the rows out in the order of `ids`."""
    numbered = pa.table({"id": pa.array(ids, pa.string()), "index": pa.array(np.arange(len(ids), dtype=np.int32))})
    index = connection.create_table(ibis.util.gen_name("index"), ibis.memtable(numbered), temp=True)
    if rows is None:
        return Arranged(index, numbered, len(ids))
    with_rows = index.left_join(rows.table.mutate(listed=True), "id").order_by("index")
    columns = connection.to_pyarrow(with_rows)
    return Arranged(index, columns, columns["listed"].null_count)


def mask(flags: Sequence[bool]) -> NDArray[np.bool_]:
    return np.array(flags, np.bool_)


def _require_unique(connection: Backend, good: ir.Table, path: str, id_name: str) -> None:
    counted = good.group_by("id").agg(rows=good.count())
    repeated = connection.to_pyarrow(counted.filter(counted.rows > 1).order_by("id").select("id"))
    if len(repeated):
        examples = ", ".join(repr(name) for name in repeated.column(0).to_pylist()[:_SHOWN])
        raise SourceError(
            f"{path}: {len(repeated):,} values of {id_name!r} have several rows, such as {examples}; keep one"
        )
