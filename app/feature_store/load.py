"""Bulk loading of users' states: resumable, and it never loses a live event."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha1
from itertools import islice
from typing import Any

from redis.cluster import RedisCluster

from app.feature_store.event_log import EventLog
from app.feature_store.keys import PARTITIONS, Keys, partition_of
from app.feature_store.live_events import LiveEvents
from app.feature_store.scripts import Call, Script
from app.feature_store.sync_client import SyncClient, run_script, sync_client
from models.contract.ids import hash_id
from models.contract.schema import Schema
from models.contract.state import Limits, UserState, pack, unpack
from models.contract.state_merge import merge

LOAD_STATE = Script.read("load_state")
BATCH = 256  # users of one run of the script, during which the server answers nobody else: a few milliseconds
MARK_EVERY = 8  # batches; what was put since the last mark is found to be there already when the load goes on

States = Callable[[int], Iterable[tuple[str, bytes]]]
Batch = dict[str, tuple[bytes, Call]]  # by user: the packed state, and the run of the script that puts it in place


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What is loaded.

    states(start): (user id, packed state with load_tag) from user number `start` on, always in the same order.
    num_users: how many there are.  load_tag: names the data and the clock shift; not 0.  end_ms: all are earlier.
    schema: its limits, and the event types that count as seeing an item.
    """

    states: States
    num_users: int
    load_tag: int
    end_ms: int
    schema: Schema


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
    with sync_client(url, cluster=cluster) as client:
        load = _Load(client, prefix, job)
        done = load.start()
        counts = Counter({"unchanged": done})
        on_progress(done)
        for number, of_batch in enumerate(_put_ahead(map(load.batch, _batches(job.states(done))), load.put), 1):
            counts += of_batch
            done += of_batch.total()
            if number % MARK_EVERY == 0:
                load.mark(done)
            on_progress(done)
        load.mark(done)
    return LoadReport(counts["loaded"], counts["merged"], counts["unchanged"], counts["erased"])


def _batches(states: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    remaining = iter(states)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _put_ahead(batches: Iterable[Batch], put: Callable[[Batch], Counter[str]]) -> Iterator[Counter[str]]:
    """Puts each batch in place, in a thread, while the next one is made: what became of each, in order."""
    with ThreadPoolExecutor(1) as thread:
        under_way: Future[Counter[str]] | None = None
        for batch in batches:
            if under_way is not None:
                yield under_way.result()
            under_way = thread.submit(put, batch)
        if under_way is not None:
            yield under_way.result()


class _Load:
    """One run: the connection, what it loads, and what it knows of the loads before."""

    def __init__(self, client: SyncClient, prefix: str, job: LoadJob) -> None:
        self._client: Any = client
        self._keys, self._job = Keys(prefix), job
        self._key_parts = [(self._keys.states(p), self._keys.erased(p)) for p in range(PARTITIONS)]
        self._limits = Limits.of(job.schema)
        self._ends: dict[int, int] = {}
        self._live = LiveEvents(EventLog(client, prefix), 0, ())

    def start(self) -> int:
        """The number of users that were done when the last run stopped; 0 if that was another load."""
        tag = self._job.load_tag
        self._client.script_load(LOAD_STATE.text)  # else redis-py would print the first batch into its error: 0.1 s
        self._client.hset(self._keys.load_ends(), f"{tag:016x}", self._job.end_ms)  # before any state has the tag
        ends = self._client.hgetall(self._keys.load_ends())
        self._ends = {int(name, 16): int(end_ms) for name, end_ms in ends.items()}
        log = EventLog(self._client, self._keys.prefix)
        self._live = LiveEvents(log, max(self._ends.values()), self._job.schema.seen_types)
        cursor = self._client.hgetall(self._keys.load_cursor())
        return int(cursor[b"done"]) if cursor and int(cursor[b"tag"], 16) == tag else 0

    def mark(self, done: int) -> None:
        self._client.hset(self._keys.load_cursor(), mapping={"tag": f"{self._job.load_tag:016x}", "done": done})

    def batch(self, states: Iterable[tuple[str, bytes]]) -> Batch:
        """All that can be made ready before the server's turn."""
        return {user: (raw, self._call(user, raw, "")) for user, raw in states}

    def put(self, batch: Batch) -> Counter[str]:
        """Put a batch of users in place; how many there were by what became of them."""
        counts: Counter[str] = Counter()
        calls = {user: call for user, (_, call) in batch.items()}
        while calls:
            replies = self._run(list(calls.values()))
            others: dict[str, bytes] = {}
            for user, (status, *stored) in zip(calls, replies, strict=True):
                if status == b"other":
                    others[user] = stored[0]
                else:
                    counts[status.decode()] += 1
            calls = self._merged_calls(others, batch)
        return counts

    def _run(self, calls: list[Call]) -> list[Any]:
        """The script's reply for each user. One run for all of them, where their keys need not share a slot: the server
        parses and syncs to its disk once."""
        if isinstance(self._client, RedisCluster):
            return [reply for replies in run_script(self._client, LOAD_STATE, calls) for reply in replies]
        keys = [key for call in calls for key in call.keys]
        args = [arg for call in calls for arg in call.args]
        replies: list[Any] = run_script(self._client, LOAD_STATE, [Call(keys, args)])[0]
        return replies

    def _merged_calls(self, others: dict[str, bytes], batch: Batch) -> dict[str, Call]:
        old = {user: unpack(stored) for user, stored in others.items()}
        # After the states: an event that comes in between changes its user's state, and the script then says so.
        if any(state is not None and state.load_tag for state in old.values()):
            self._live.read()
        calls: dict[str, Call] = {}
        for user, stored in others.items():
            merged = self._merge(user, old[user], batch[user][0])
            calls[user] = self._call(user, merged, sha1(stored, usedforsecurity=False).hexdigest())
        return calls

    def _merge(self, user: str, old: UserState | None, loaded: bytes) -> bytes:
        new = unpack(loaded)
        if new is None:
            raise ValueError(f"the state to load for user {user!r} is not a packed state")
        if old is None:
            return loaded
        end_ms = self._ends.get(old.load_tag, self._job.end_ms)
        return pack(merge(old, new, end_ms, self._limits, self._live.of(user)))

    def _call(self, user: str, raw: bytes, merged_with: str) -> Call:
        user_hash = hash_id(user)
        states, erased = self._key_parts[partition_of(user_hash)]
        return Call((states + user, erased), (f"{user_hash:016x}", raw, merged_with))
