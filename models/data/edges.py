"""Edges between users or between items: read, judged, and turned into pairs of indices."""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from models.data.clean import count_rows, judge_pairs, require_good
from models.data.report import SourceReport
from models.data.sources import id_column, read_source, require_columns


@dataclass(frozen=True, slots=True)
class EdgeRows:
    """table: the good rows of a source, ids `id` and `other`, in no order."""

    table: ir.Table
    source: SourceReport


@dataclass(frozen=True, slots=True)
class Edges:
    """pairs: int32 [E, 2], indices, the smaller first, sorted, each once.  source: None without such a table."""

    pairs: NDArray[np.int32]
    source: SourceReport | None


NO_EDGES = Edges(np.empty((0, 2), np.int32), None)


def read_edges(connection: Backend, path: str, columns: tuple[str, str], max_bad_share: float) -> EdgeRows:
    """Raises SourceError for a missing column, BadRowsError for too many bad rows."""
    table = read_source(connection, path, columns)
    require_columns(table, path, columns)
    rows = table.select(id=id_column(table, path, columns[0]), other=id_column(table, path, columns[1]))
    judged = connection.create_table(ibis.util.gen_name("edges"), judge_pairs(rows, columns), temp=True)
    source = count_rows(connection, judged, {})
    require_good(source, path, max_bad_share)
    return EdgeRows(judged.filter(judged.reason.isnull()).drop("reason"), source)


def ids_of(connection: Backend, edges: EdgeRows | None) -> list[str]:
    """Every id at an end of an edge, in no order."""
    if edges is None:
        return []
    ends = edges.table.select("id").union(edges.table.select(id=edges.table.other), distinct=True)
    ids: list[str] = connection.to_pyarrow(ends).column(0).to_pylist()
    return ids


def index_edges(connection: Backend, edges: EdgeRows | None, index: ir.Table) -> Edges:
    """The edges whose ends are both kept, with what was left out counted in the report.

    index: table (id, index) of what is kept. An edge has no direction: a, b and b, a are the same.
    """
    if edges is None:
        return NO_EDGES
    others = index.rename(other="id", other_index="index")
    joined = edges.table.left_join(index, "id").left_join(others, "other").select("index", "other_index")
    found = connection.to_pyarrow(joined.fill_null({"index": -1, "other_index": -1}))
    ends = np.stack([found["index"].to_numpy(), found["other_index"].to_numpy()], axis=1).astype(np.int32)
    known = ends[(ends >= 0).all(axis=1)]
    apart = np.sort(known[known[:, 0] != known[:, 1]], axis=1)
    pairs = np.unique(apart, axis=0)
    counts = {
        "an end is not kept": len(ends) - len(known),
        "both ends are the same": len(known) - len(apart),
        "given more than once": len(apart) - len(pairs),
    }
    left_out = {reason: count for reason, count in counts.items() if count}
    return Edges(pairs, edges.source.model_copy(update={"left_out": left_out}))
