"""Which items each user has, asked for millions of pairs a second."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_BITMAP_BYTES = 1 << 28
BITS_PER_PAIR = 32  # of the filter: at most one pair in 32 that is not there is looked up
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing (Knuth 6.4): 2^64 over the golden ratio


@dataclass(frozen=True, slots=True)
class Positives:
    """The distinct (user, item) pairs of the interactions.

    counts: int64 [U], distinct items of each user.
    """

    num_users: int
    num_items: int
    counts: NDArray[np.int64]
    _keys: NDArray[np.int64]  # user * num_items + item, ascending
    _bits: NDArray[np.uint8]
    _shift: int  # 0: a bit for every pair there could be; else of a key's hash to its bit

    @classmethod
    def of(
        cls,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        num_users: int,
        num_items: int,
        max_bitmap_bytes: int = MAX_BITMAP_BYTES,
    ) -> "Positives":
        """From the interactions' users and items, int64 [n] each, in any order, repeats allowed.

        A bitmap of all users x items where it fits into `max_bitmap_bytes`; else one of the pairs' hashes, as a filter
        before a search in the sorted pairs. Answers are the same. Raises ValueError for an index out of range.
        """
        if len(users) != len(items):
            raise ValueError(f"users has {len(users)} entries and items {len(items)}: give one of each a pair")
        check_indices("users", users, num_users)
        check_indices("items", items, num_items)
        keys = _ascending(users.astype(np.int64) * num_items + items)
        counts = np.bincount(keys // num_items, minlength=num_users)
        if num_users * num_items <= 8 * max_bitmap_bytes:
            return cls(num_users, num_items, counts, keys, _pack(keys, num_users * num_items), 0)
        width = (BITS_PER_PAIR * len(keys)).bit_length()
        hashed = _ascending(_hash(keys, 64 - width))
        return cls(num_users, num_items, counts, keys, _pack(hashed, 1 << width), 64 - width)

    def contains(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each user has the item; the two arrays broadcast against each other. Indices are not checked."""
        keys = users * self.num_items + items
        if not self._shift:
            return _test(self._bits, keys)
        found = _test(self._bits, _hash(keys, self._shift))
        maybe = keys[found]
        place = np.minimum(np.searchsorted(self._keys, maybe), len(self._keys) - 1)
        found[found] = self._keys[place] == maybe
        return found

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Users and items int64 [p] each: every pair once, by user and item."""
        return self._keys // self.num_items, self._keys % self.num_items


def check_indices(name: str, indices: NDArray[np.int64], size: int) -> None:
    """Raises ValueError for indices outside 0 to size - 1."""
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"{name} has indices from {indices.min()} to {indices.max()}, not all of 0 to {size - 1}")


def _ascending(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each once. np.unique hashes integers before it sorts them, twenty times slower on millions."""
    keys = np.sort(keys)
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def _hash(keys: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    return ((keys.view(np.uint64) * _GOLDEN) >> np.uint64(shift)).view(np.int64)


def _pack(places: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Bytes with these bits set.  places: ascending."""
    packed = np.zeros((size + 7) // 8, np.uint8)
    if len(places):
        octets = places >> 3
        starts = np.flatnonzero(np.concatenate([[True], octets[1:] != octets[:-1]]))
        packed[octets[starts]] = np.bitwise_or.reduceat(_mask(places), starts)
    return packed


def _mask(places: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (places & 7).astype(np.uint8))


def _test(packed: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (packed[places >> 3] & _mask(places)) != 0
    return found
