"""Every Redis key of the service. Keys that one script touches share a slot through the partition in braces."""

import re
from dataclasses import dataclass

from models.contract.events import MAX_AGE_MS, MAX_AHEAD_MS
from models.contract.ids import hash_id

PARTITIONS = 256

# An event can be sent again until it is too old, so its id is kept that long, and an hour for clocks that differ.
# Ids go into the bucket of the moment they arrive; a bucket lives for one more length after it is full.
ID_BUCKET_MS = MAX_AGE_MS + MAX_AHEAD_MS + 3600 * 1000


def partition(user_id: str) -> int:
    """Which of the 256 partitions holds a user. Fixed for ever: it is part of the stored keys."""
    return partition_of(hash_id(user_id))


def partition_of(user_hash: int) -> int:
    """The partition of the user with this `hash_id`."""
    return user_hash % PARTITIONS


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys under one prefix.  Raises ValueError for a prefix with characters that would break the slot's braces."""

    prefix: str = "shortlist"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", self.prefix):
            raise ValueError(f"key prefix {self.prefix!r} must be 1 to 64 letters, digits or _ . : -")

    def state(self, user_id: str) -> str:
        """String: the packed state of a user."""
        return self.states(partition(user_id)) + user_id

    def states(self, p: int) -> str:
        """What the keys of a partition's states begin with; the user's id follows."""
        return f"{self.prefix}:{{{p}}}:u:"

    def events(self, p: int) -> str:
        """Stream: the events of a partition, one field `event` with JSON."""
        return f"{self.prefix}:{{{p}}}:events"

    def event_ids(self, user_id: str, now_ms: int) -> tuple[str, str, str]:
        """Hashes event_id -> digest: the buckets before, of and after a moment. New ids go into the middle one.

        All three are looked up, so that servers whose clocks differ around a bucket's end still see each other's ids.
        """
        p, bucket = partition(user_id), now_ms // ID_BUCKET_MS
        before, now, after = (f"{self.prefix}:{{{p}}}:i:{b}:{user_id}" for b in (bucket - 1, bucket, bucket + 1))
        return before, now, after

    def erasing(self, p: int) -> str:
        """Hash user -> last stream id at the erasure: users whose archived rows are still to be removed."""
        return f"{self.prefix}:{{{p}}}:erasing"

    def erased(self, p: int) -> str:
        """Hash of hashed users -> time in ms of the erasure: `shortlist load` must not bring them back."""
        return f"{self.prefix}:{{{p}}}:erased"

    def store_id(self) -> str:
        """String: a random name of this store's contents, so that the archive notices another or an emptied store."""
        return f"{self.prefix}:store"

    def load_cursor(self) -> str:
        """Hash: `tag` of the last load, and `done`, how many users `shortlist load` has put in place of it."""
        return f"{self.prefix}:load:cursor"

    def load_ends(self) -> str:
        """Hash load tag -> end in ms: states of several loads lie side by side while a load runs or is interrupted."""
        return f"{self.prefix}:load_ends"


def ids_ttl_ms(now_ms: int) -> int:
    """How long the middle bucket still has to live: to its end, and one length more."""
    return ID_BUCKET_MS - now_ms % ID_BUCKET_MS + ID_BUCKET_MS
