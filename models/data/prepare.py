"""From a team's files to a prepared dataset: validate, join, filter, split, encode, write.

`prepare_dataset` is the whole flow. Tables are Ibis expressions that DuckDB runs; what leaves them is in a total order.
"""

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from models.contract.archive import FOLDER, archive_files
from models.contract.schema import CategoricalFeature, NumericFeature, Schema
from models.data import archive
from models.data.catalogue import Items, Users, make_items, make_users
from models.data.config import SOURCES, Config
from models.data.dataset import PARTS, load_dataset
from models.data.errors import DatasetError, SourceError
from models.data.impression_log import ImpressionLog, read_impressions
from models.data.log import Log, OrderedLog, order_log, read_log
from models.data.report import Report
from models.data.sources import connect
from models.data.split import require_parts
from models.data.write import exclusive, input_key, replace_folder, store_key, stored_key, write_dataset

STEPS = ("interactions", "items", "users", "order", "write")


@dataclass(frozen=True, slots=True)
class Prepared:
    """folder: the prepared dataset.  reused: nothing was done, since the input and the configuration are the same."""

    folder: Path
    report: Report
    reused: bool


def prepare_dataset(config: Config, data_dir: Path, on_step: Callable[[str], None] = lambda step: None) -> Prepared:
    """Write `data_dir`/prepared, or leave it alone if it was made from the same input and configuration.

    Beside the team's files the archived events in `data_dir`/archive are input.

    on_step is called with each of STEPS as it begins. Raises DataError; an older dataset then stays as it was.
    """
    folder = data_dir / "prepared"
    data_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(data_dir / ".prepare.lock", "another `shortlist prepare`"):
        archived = archive_files(data_dir / FOLDER)
        key = input_key(config, archived)
        if stored_key(folder) == key:
            try:
                return Prepared(folder, load_dataset(folder).report, reused=True)
            except DatasetError:
                pass  # damaged since: make it again
        scratch = data_dir / ".prepare"
        shutil.rmtree(scratch, ignore_errors=True)  # left by a run that was killed
        try:
            with warnings.catch_warnings():
                # Ibis 12 calls a method that DuckDB 2 has renamed; both still work.
                warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
                report = _prepare(config, archived, scratch, on_step)
            store_key(scratch / "prepared", key)
            replace_folder(scratch / "prepared", folder)
        except duckdb.Error as error:  # Parquet is read late, and DuckDB does not say of which file
            sections = (getattr(config, name) for name in SOURCES)
            paths = ", ".join(section.path for section in sections if section and section.path)
            raise SourceError(f"{paths}: cannot be read: {' '.join(str(error).splitlines()[:3])}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Prepared(folder, report, reused=False)


def _prepare(config: Config, archived: Sequence[Path], scratch: Path, on_step: Callable[[str], None]) -> Report:
    connection = connect(scratch)
    try:
        on_step("interactions")
        log = read_log(connection, config, archived)
        on_step("items")
        items = make_items(connection, config, log)
        on_step("users")
        users = make_users(connection, config, log)
        on_step("order")
        rows = order_log(connection, config, log, items.arranged.index, users.arranged.index)
        shown = read_impressions(connection, config, rows.interactions, items.arranged.index, users.arranged.index)
    finally:
        connection.disconnect()
    report = _report(config, log, items, users, rows, shown)
    require_parts(report.parts, log.splits)
    on_step("write")
    impressions = shown.impressions if shown else None
    schema = _schema(config, log, items, users, rows)
    write_dataset(scratch / "prepared", schema, log.splits, rows, items, users, impressions, report)
    load_dataset(scratch / "prepared")  # what was written must open
    return report


def _schema(config: Config, log: Log, items: Items, users: Users, rows: OrderedLog) -> Schema:
    state = config.state
    return Schema(
        event_types=log.event_types,
        seen_types=config.events.seen,
        user_features=[f for f in users.encoded.features if isinstance(f, CategoricalFeature | NumericFeature)],
        context_features=rows.context_features,
        item_features=items.encoded.features,
        returned=config.items.returned if config.items else [],
        filterable=config.items.filterable if config.items else [],
        event_context=config.log.context,
        affinity=config.items.affinity if config.items else [],
        history_limit=state.history_limit,
        seen_limit=state.seen_limit,
        feature_ttl_s=round(state.feature_ttl_days * 86_400) if state.feature_ttl_days else None,
    )


def _report(
    config: Config, log: Log, items: Items, users: Users, rows: OrderedLog, shown: ImpressionLog | None
) -> Report:
    sources = {
        "interactions": log.source,
        archive.NAME: log.archive.source if log.archive else None,
        "items": items.source,
        "users": users.source,
        "social": users.social.source,
        "item_edges": items.edges.source,
        "impressions": shown.source if shown else None,
    }
    times = rows.interactions.time_ms
    return Report(
        sources={name: source for name, source in sources.items() if source},
        num_interactions=len(rows.interactions),
        num_users=len(users.ids),
        num_items=len(items.ids),
        items_sold=items.num_sold,
        users_active=users.num_active,
        min_users=config.limits.min_users,
        items_left_out=items.num_left_out,
        items_listed_left_out=items.num_listed_left_out,
        interactions_left_out=log.num_good - len(rows.interactions),
        items_without_row=items.arranged.num_without_row,
        users_without_row=users.arranged.num_without_row,
        parts=dict(zip(PARTS, np.bincount(rows.part, minlength=len(PARTS)).tolist(), strict=True)),
        first_time_ms=int(times.min()) if len(times) else 0,
        last_time_ms=int(times.max()) if len(times) else 0,
        clock_shift_ms=log.archive.clock_shift_ms if log.archive else None,
        rare_values=_not_zero(items.encoded.rare | users.encoded.rare | rows.rare),
        cut_values=_not_zero(items.encoded.cut),
        num_impressions=len(shown.impressions) if shown else None,
        impressions_clicked=int(shown.impressions.clicked.sum()) if shown else 0,
    )


def _not_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
