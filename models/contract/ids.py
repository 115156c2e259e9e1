"""Kinds of ids. Outside ids are strings; inside, an item is a dense index that only one bundle knows.

An item's 64-bit hash means the same in every bundle, so it is what the feature store keeps. Item indices are the
ranks of the sorted hashes: the sorted array is the whole lookup table, and it can be memory-mapped.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

MAX_ID_LENGTH = 128


def hash_id(text: str) -> int:
    """The 64-bit hash of an id: BLAKE2b of its UTF-8 bytes, read little-endian."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def hash_ids(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Hashes of many ids, uint64 [n]."""
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def hash_name(text: str) -> int:
    """The 32-bit hash of an event type's name, so that a packed state needs no registry of types."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little")


def check_collisions(ids: Sequence[str], hashes: NDArray[np.uint64]) -> None:
    """Raise ValueError if two different ids share a hash (chance about 1e-8 at a million items)."""
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    if len(equal):
        first, second = (ids[order[equal[0] + offset]] for offset in (0, 1))
        raise ValueError(f"item ids {first!r} and {second!r} have the same hash; rename one of them")
