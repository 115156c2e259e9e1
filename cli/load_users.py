"""The users of the prepared data set, with their histories, as packed states in the feature store."""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.feature_store.load import LoadJob, LoadReport, load_states
from models.contract.ids import hash_id
from models.contract.state import Limits
from models.data.dataset import Dataset
from models.states import UserStates

BLOCK = 256  # users whose states are built at once


def load_users(
    dataset: Dataset,
    redis_url: str,
    *,
    shift_ms: int = 0,
    before_ms: int | None = None,
    prefix: str = "shortlist",
    cluster: bool = False,
    console: Console | None = None,
) -> LoadReport:
    """Load every user of the data set; run again, go on where it stopped.

    shift_ms: added to all times; the bundle's clock_shift_ms.  before_ms: only interactions earlier than this, in
    the data's own time.  Raises FeatureStoreUnavailable when Redis fails, ValueError for times that, shifted, lie
    outside 1970-01-02 to 2106.
    """
    end_ms = dataset.splits.end_ms if before_ms is None else min(before_ms, dataset.splits.end_ms)
    tag = load_tag(dataset, shift_ms, end_ms)
    job = LoadJob(
        lambda start: packed_states(dataset, shift_ms=shift_ms, end_ms=end_ms, tag=tag, start=start),
        dataset.num_users,
        tag,
        end_ms + shift_ms,
        dataset.schema,
    )
    columns = (TextColumn("loading users"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("load", total=job.num_users)
        return load_states(
            redis_url,
            job,
            prefix=prefix,
            cluster=cluster,
            on_progress=lambda done: progress.update(task, completed=done),
        )


def load_tag(dataset: Dataset, shift_ms: int, end_ms: int) -> int:
    """64 bits that name one load: its data, clock shift, end and limits. Not 0."""
    limits = Limits.of(dataset.schema)
    seen = ",".join(dataset.schema.seen_types)
    return hash_id(f"{dataset.fingerprint}:{shift_ms}:{end_ms}:{limits.history}:{limits.seen}:{seen}") or 1


def packed_states(dataset: Dataset, *, shift_ms: int, end_ms: int, tag: int, start: int) -> Iterator[tuple[str, bytes]]:
    """(user id, packed state) of each user from number `start` on, in the order of the data set."""
    states, user_ids = UserStates(dataset, shift_ms), dataset.user_ids.unmapped()
    for first in range(start, dataset.num_users, BLOCK):
        stop = min(first + BLOCK, dataset.num_users)
        yield from zip(user_ids.strings(np.arange(first, stop)), states.packed(first, stop, end_ms, tag), strict=True)


def describe(report: LoadReport) -> str:
    """The outcome in one sentence."""
    if not report.changed:
        return f"nothing to load: all {report.already_loaded + report.erased} users were loaded before"
    parts = []
    if report.loaded:
        parts.append(f"loaded {report.loaded} users")
    if report.merged:
        parts.append(f"joined {report.merged} to events that were in the store")
    if report.already_loaded:
        parts.append(f"{report.already_loaded} were loaded before")
    if report.erased:
        parts.append(f"left out {report.erased} that were erased")
    return ", ".join(parts)
