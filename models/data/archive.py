"""Archived events as a second source of interactions, under their fixed names and in the data's own time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from models.contract.archive import COLUMNS, context_column
from models.data.clean import below_reason, count_rows, epoch_ms, judge_interactions, require_good
from models.data.config import Config
from models.data.errors import SourceError
from models.data.report import SourceReport
from models.data.sections import InteractionsSection
from models.data.sources import require_columns

NAME = "archived events"


@dataclass(frozen=True, slots=True)
class ArchivedLog:
    """table: judged rows that are good, in the columns of `judge_interactions`, in no order.

    clock_shift_ms: of the newest event: what was added to the data's times when the service took it.
    """

    table: ir.Table
    source: SourceReport
    clock_shift_ms: int


def read_archive(connection: Backend, config: Config, files: Sequence[Path]) -> ArchivedLog | None:
    """The archived events, judged by the rules of the team's own rows; None if there are none.

    An event is archived once; a file that someone copied counts once all the same. Each time goes back by the clock
    shift that was in force when the event came, which the event itself carries: bundles of different shifts may have
    followed each other. Raises SourceError for a file that is no archive, BadRowsError.
    """
    if not files:
        return None
    path = str(files[0].parent)
    table = _open(connection, files).distinct()
    require_columns(table, path, COLUMNS)
    section = _section(config.log, path)
    empty = {name: ibis.null("string") for name in section.context if name not in table.columns}
    moved = epoch_ms(table.timestamp) - table.clock_shift_ms
    judged = judge_interactions(table.mutate(**empty, timestamp=moved), section)
    # in the archive a number of the team's own interactions is unknown
    absent = {f"numeric_{i}": ibis.null("float64") for i in range(len(config.log.numeric))}
    judged = connection.create_table("archive", judged.mutate(**absent), temp=True)
    source = count_rows(connection, judged, {}, below_reason(section))
    if not source.rows:
        return None
    require_good(source, path, config.limits.max_bad_share)
    newest = table.aggregate(shift=table.clock_shift_ms.argmax(table.timestamp))
    shift = connection.to_pyarrow(newest)["shift"][0].as_py()
    return ArchivedLog(judged.filter(judged.reason.isnull()), source, shift)


def _section(interactions: InteractionsSection, path: str) -> InteractionsSection:
    """How the archive calls what the team calls otherwise."""
    return InteractionsSection(
        path=path,
        timestamp="timestamp",
        time_unit="ms",
        event_type="event_type",
        default_event_type=interactions.default_event_type,
        value="value",
        min_value=interactions.min_value,
        context=[context_column(name) for name in interactions.context],
    )


def _open(connection: Backend, files: Sequence[Path]) -> ir.Table:
    for file in files:
        try:
            pq.read_metadata(file)  # DuckDB would not say which file it is
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{file}: is damaged or no archive of events ({error}); move it elsewhere") from error
    try:
        return connection.read_parquet([str(file) for file in files], union_by_name=True)
    except (duckdb.Error, ibis.common.exceptions.IbisError) as error:
        raise SourceError(f"{files[0].parent}: cannot be read: {' '.join(str(error).splitlines()[:3])}") from error
