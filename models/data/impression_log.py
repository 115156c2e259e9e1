"""The impressions: read, judged, put in their total order, and matched with the interactions."""

from dataclasses import dataclass
from itertools import pairwise

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from models.data.clean import count_rows, finite_number, id_reasons, read_time_ms, require_good, time_reason
from models.data.config import Config
from models.data.impressions import MAX_POSITION, Impressions, match_clicks
from models.data.interactions import Interactions
from models.data.report import SourceReport
from models.data.sections import ImpressionsSection
from models.data.sources import id_column, read_source, require_columns
from models.impressions import NO_LIST

_ORDER = ("user_index", "time_ms", "recommendation_id", "position", "item_index")
_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class ImpressionLog:
    impressions: Impressions
    source: SourceReport


def read_impressions(
    connection: Backend, config: Config, interactions: Interactions, items: ir.Table, users: ir.Table
) -> ImpressionLog | None:
    """Those whose item and user are kept, each once, with what was left out counted; None without [impressions].

    items, users: tables (id, index) of what is kept. Raises SourceError for a missing column, BadRowsError for too many
    bad rows.
    """
    section = config.impressions
    if section is None:
        return None
    judged = connection.create_table("impressions", _judge(connection, section), temp=True)
    missing = {section.recommendation_id: judged.recommendation_id.isnull()} if section.recommendation_id else {}
    source = count_rows(connection, judged, missing)
    require_good(source, section.path, config.limits.max_bad_share)
    good = judged.filter(judged.reason.isnull())
    known_items = good.inner_join(items.rename(item_index="index"), [("item_id", "id")]).drop("id")
    known = known_items.inner_join(users.rename(user_index="index"), [("user_id", "id")]).select(*_ORDER)
    rows = connection.to_pyarrow(known.distinct().order_by(_ORDER))
    steps = [source.rows - source.num_bad, *(_count(connection, table) for table in (known_items, known)), len(rows)]
    reasons = ("the item is not kept", "the user is not kept", "given more than once")
    counts = zip(reasons, (before - after for before, after in pairwise(steps)), strict=True)
    left_out = {reason: count for reason, count in counts if count}
    return ImpressionLog(_impressions(rows, interactions, section), source.model_copy(update={"left_out": left_out}))


def _judge(connection: Backend, section: ImpressionsSection) -> ir.Table:
    """user_id, item_id, recommendation_id (null where there is none), time_ms, position from 0, and `reason`."""
    path, listed = section.path, section.recommendation_id
    names = [section.user_id, section.item_id, *([listed] if listed else [])]
    table = read_source(connection, path, names)
    require_columns(table, path, [*names, section.timestamp, section.position])
    position = finite_number(table, path, section.position)
    rows = table.select(
        user_id=id_column(table, path, section.user_id),
        item_id=id_column(table, path, section.item_id),
        recommendation_id=id_column(table, path, listed).nullif("") if listed else ibis.null("string"),
        time_ms=read_time_ms(table, path, section.timestamp, section.time_unit, "impressions"),
        position=ibis.ifelse(position == position.floor(), position, ibis.null("float64")),
    )
    reason = ibis.cases(
        *id_reasons(rows.user_id, section.user_id),
        *id_reasons(rows.item_id, section.item_id),
        (rows.time_ms.isnull(), time_reason(section.time_unit)),
        (
            ~rows.position.between(1, MAX_POSITION).fill_null(False),
            f"{section.position} is not a whole number from 1 to {MAX_POSITION}",
        ),
    )
    return rows.mutate(reason=reason, position=rows.position - 1)


def _impressions(rows: pa.Table, interactions: Interactions, section: ImpressionsSection) -> Impressions:
    """rows: of _ORDER, in that order. Lists are numbered by when they first come in it."""
    users, items = (rows[name].to_numpy().astype(np.int32) for name in ("user_index", "item_index"))
    times = rows["time_ms"].to_numpy().astype(np.int64)
    window_ms = round(section.click_window_hours * _MS_PER_HOUR)
    lists = rows["recommendation_id"].combine_chunks().cast(pa.string()).dictionary_encode().indices
    return Impressions(
        user_index=users,
        item_index=items,
        time_ms=times,
        position=rows["position"].to_numpy().astype(np.int32),
        list_number=lists.fill_null(NO_LIST).to_numpy().astype(np.int64),
        came_from=match_clicks(interactions, users, items, times, window_ms),
        click_window_ms=window_ms,
    )


def _count(connection: Backend, table: ir.Table) -> int:
    counted: int = connection.to_pyarrow(table.agg(rows=table.count()))["rows"][0].as_py()
    return counted
