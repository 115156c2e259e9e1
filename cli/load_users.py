"""The users of the prepared data set, with their histories, as packed states in the feature store."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.feature_store.load import LoadJob, LoadReport, load_states
from models.contract.ids import hash_id, hash_name
from models.contract.schema import CategoricalFeature, Schema
from models.contract.state import Features, Limits, build, pack
from models.data.dataset import Dataset


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
        Limits.of(dataset.schema),
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
    schema, rows = dataset.schema, dataset.interactions
    offsets = rows.user_offsets(dataset.num_users)
    type_hashes = np.array([hash_name(name) for name in schema.event_types], np.uint32)
    type_seen = np.array([name in schema.seen_types for name in schema.event_types], np.bool_)
    for user in range(start, dataset.num_users):
        first, last = int(offsets[user]), int(offsets[user + 1])
        last = first + int(np.searchsorted(rows.time_ms[first:last], end_ms))
        items = rows.item_index[first:last].astype(np.int64)
        types = rows.event_type[first:last]
        state = build(
            rows.time_ms[first:last] + shift_ms,
            dataset.item_hashes[items],
            type_hashes[types],
            dataset.item_ids,
            items,
            type_seen[types],
            user_features(schema, dataset.user_categorical[user], dataset.user_numeric[user], end_ms - 1 + shift_ms),
            Limits.of(schema),
            tag,
        )
        yield dataset.user_ids[user].decode(), pack(state)


def user_features(
    schema: Schema, categorical: NDArray[np.int32], numeric: NDArray[np.float32], time_ms: int
) -> Features:
    """A user's features by name, as known at time_ms: texts from the vocabularies, numbers in their own unit again.

    Missing and unknown categories are left out. A missing number is stored as the mean: prepared data does not tell
    the two apart.
    """
    features: dict[str, tuple[str | float, int]] = {}
    codes, scaled = iter(categorical.tolist()), iter(numeric.tolist())
    for feature in schema.user_features:
        if not isinstance(feature, CategoricalFeature):
            features[feature.name] = (next(scaled) * feature.std + feature.mean, time_ms)
        elif code := next(codes):
            features[feature.name] = (feature.vocabulary[code - 1], time_ms)
    return features


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
