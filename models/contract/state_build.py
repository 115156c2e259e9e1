"""The state of one user's whole log, by a few sorts."""

import numpy as np
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.state import (
    COUNTER,
    COUNTER_DAYS,
    DAY_MS,
    MAX_COUNT,
    Features,
    Limits,
    UserState,
    check_times,
    pack_features,
)


def build(
    times_ms: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    types: NDArray[np.uint32],
    item_ids: BytesColumn,
    id_index: NDArray[np.int64],
    seen_mask: NDArray[np.bool_],
    features: Features,
    limits: Limits,
    load_tag: int = 0,
) -> UserState:
    """The state of one user's whole log of M interactions, in any order: what `state_parts.apply` gives one by one.

    times_ms: int64 [M].  hashes: uint64 [M], item hashes.  types: uint32 [M], type hashes.  id_index: int64 [M], the
    position of each interaction's item id in item_ids.  seen_mask: bool [M], the interaction counts as seeing.
    """
    if len(times_ms):
        check_times(int(times_ms.min()), int(times_ms.max()))
    newest = np.lexsort((types, hashes, times_ms))[-limits.history :]
    ids = [item_ids[index] for index in id_index[newest].tolist()]
    seen_hashes, seen_times, evicted = _build_seen(hashes[seen_mask], times_ms[seen_mask] // 1000, limits.seen)
    return UserState(
        times_ms[newest].astype(np.int64),
        hashes[newest].astype(np.uint64),
        types[newest].astype(np.uint32),
        np.array([len(item_id) for item_id in ids], np.uint16),
        b"".join(ids),
        seen_hashes,
        seen_times,
        evicted,
        _build_counters(times_ms // DAY_MS, types),
        pack_features(features),
        load_tag,
    )


def _build_seen(
    hashes: NDArray[np.uint64], times_s: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32], bool]:
    order = np.lexsort((times_s, hashes))
    hashes, times_s = hashes[order], times_s[order]
    last = np.append(hashes[1:] != hashes[:-1], True)[: len(hashes)]
    hashes, times_s = hashes[last], times_s[last]
    kept = np.sort(np.lexsort((hashes, times_s))[-limit:])
    return hashes[kept].astype(np.uint64), times_s[kept].astype(np.uint32), len(hashes) > limit


def _build_counters(days: NDArray[np.int64], types: NDArray[np.uint32]) -> NDArray[np.void]:
    recent = days > (int(days.max()) if len(days) else 0) - COUNTER_DAYS
    keys = np.concatenate([np.zeros(len(days), np.int64), days[recent]]) << 32
    keys |= np.concatenate([types, types[recent]]).astype(np.int64)
    unique, counts = np.unique(keys, return_counts=True)
    records = np.empty(len(unique), COUNTER)
    records["day"], records["type"], records["count"] = unique >> 32, unique & MAX_COUNT, counts
    return records
