"""Bulk loading of users' states: resumable, and it never loses a live event."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from itertools import islice
from typing import Any

from app.feature_store.keys import Keys, partition
from app.feature_store.scripts import Call, Script
from app.feature_store.sync_client import SyncClient, run_script, sync_client
from models.contract.ids import hash_id
from models.contract.state import Limits, pack, unpack
from models.contract.state_merge import merge

LOAD_STATE = Script.read("load_state")
BATCH = 128

States = Callable[[int], Iterable[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What is loaded.

    states(start): (user id, packed state with load_tag) from user number `start` on, always in the same order.
    num_users: how many there are.  load_tag: names the data and the clock shift; not 0.  end_ms: all are earlier.
    """

    states: States
    num_users: int
    load_tag: int
    end_ms: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Number of users by what became of them.

    already_loaded: by this or an interrupted run of the same load.  merged: joined to events that were in the store.
    erased: left out, since they asked to be forgotten.
    """

    loaded: int
    merged: int
    already_loaded: int
    erased: int

    @property
    def changed(self) -> int:
        return self.loaded + self.merged


def load_states(
    url: str,
    job: LoadJob,
    *,
    prefix: str = "shortlist",
    cluster: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> LoadReport:
    """Put every user's state into the store; run again, it goes on where it stopped.

    on_progress: called with the number of users done.  Raises FeatureStoreUnavailable when Redis fails.
    """
    keys = Keys(prefix)
    with sync_client(url, cluster=cluster) as client:
        cursor = keys.load_cursor(job.load_tag)
        done = _number(client.get(cursor))
        counts = Counter({"unchanged": done})
        on_progress(done)
        for batch in _batches(job.states(done)):
            counts += _load_batch(client, keys, job, batch)
            done += len(batch)
            client.set(cursor, done)
            on_progress(done)
    return LoadReport(counts["loaded"], counts["merged"], counts["unchanged"], counts["erased"])


def _number(value: Any) -> int:
    return int(value) if value is not None else 0


def _batches(states: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    remaining = iter(states)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _load_batch(client: SyncClient, keys: Keys, job: LoadJob, batch: list[tuple[str, bytes]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    loaded = dict(batch)
    calls = {user: _call(keys, user, raw, "") for user, raw in batch}
    while calls:
        replies = run_script(client, LOAD_STATE, list(calls.values()))
        waiting: dict[str, Call] = {}
        for user, (status, *stored) in zip(calls, replies, strict=True):
            if status == b"other":
                waiting[user] = _merged_call(keys, user, stored[0], loaded[user], job)
            else:
                counts[status.decode()] += 1
        calls = waiting
    return counts


def _merged_call(keys: Keys, user: str, stored: bytes, loaded: bytes, job: LoadJob) -> Call:
    old, new = unpack(stored), unpack(loaded)
    if new is None:
        raise ValueError(f"the state to load for user {user!r} is not a packed state")
    merged = loaded if old is None else pack(merge(old, new, job.end_ms, job.limits))
    return _call(keys, user, merged, sha1(stored, usedforsecurity=False).hexdigest())


def _call(keys: Keys, user: str, raw: bytes, merged_with: str) -> Call:
    return Call([keys.state(user), keys.erased(partition(user))], [f"{hash_id(user):016x}", raw, merged_with])
