"""Which items a request may be answered with: its filter, what it excludes and what the user has seen. Pure functions,
and the masks of recently used filters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidRequest
from app.kept import Kept
from app.query import AllOf, Equals, Node, OneOf, conditions
from models.contract.kernels.chosen import kernels

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Column:
    """One filterable column of N items.

    codes: signed integers [N], -1 missing.  num_values: how many codes there are.  found: codes by kind and value; a
    value's own object is the key, so an entry takes some 70 bytes: 13 MB for 200,000 values.
    """

    codes: NDArray[Any]
    num_values: int
    found: dict[str, dict[Any, list[int] | int]]

    def mask(self, wanted: Sequence[Any]) -> Mask:
        """Items whose value is one of these, bool [N]."""
        chosen = np.zeros(self.num_values + 1, np.bool_)  # code -1 is the last one
        for value in wanted:
            chosen[self.found[_kind(value)].get(value, [])] = True
        found: Mask = chosen[self.codes]
        return found


Columns = dict[str, Column]


def index_columns(stored: dict[str, tuple[NDArray[Any], list[Any]]]) -> Columns:
    """stored: codes [N] and values by column name, as in the bundle. Done once, as a bundle is opened."""
    return {name: Column(codes, len(values), _index(values)) for name, (codes, values) in stored.items()}


def _index(values: Sequence[Any]) -> dict[str, dict[Any, list[int] | int]]:
    found: dict[str, dict[Any, list[int] | int]] = {"bool": {}, "text": {}, "number": {}}
    for code, value in enumerate(values):
        of_kind = found[_kind(value)]
        earlier = of_kind.get(value)
        if earlier is None:
            of_kind[value] = code
        else:  # 1 and 1.0
            of_kind[value] = [*(earlier if isinstance(earlier, list) else [earlier]), code]
    return found


def check_names(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise InvalidRequest when a name is not one the bundle knows; the message lists those it does."""
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidRequest.of(kind, f"{name!r} is unknown to the active bundle; known: {listed}")


def check_filter(parts: Node, known: Sequence[str]) -> None:
    check_names("filter", [condition.field for condition, _ in conditions(parts)], known)


def filter_mask(parts: Node, columns: Columns) -> Mask:
    """Items that satisfy the filter, bool [N]. A missing value satisfies no comparison."""
    if isinstance(parts, Equals | OneOf):
        return columns[parts.field].mask([parts.eq] if isinstance(parts, Equals) else parts.values)
    masks = [filter_mask(part, columns) for part in (parts.all if isinstance(parts, AllOf) else parts.any)]
    joined = np.logical_and if isinstance(parts, AllOf) else np.logical_or
    result: Mask = joined.reduce(masks)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """Which of N items may be on the list: those of the filter's mask, but for the removed ones.

    A mask of its own would be N bytes to write for each request: 60 us at a million items.

    mask: bool [N], read-only, or None for all.  removed: int64 [r], distinct, inside the mask.  count: of what is left.
    marks: bool [N], lent by the engine, all False between lookups; so one thread at a time may look up.
    """

    mask: Mask | None
    removed: NDArray[np.int64]
    count: int
    marks: Mask

    def __getitem__(self, items: NDArray[Any]) -> Mask:
        """Of these items, bool [n]; -1 is none, and not allowed."""
        return kernels.among(items, self.mask, self.removed, self.marks)

    def items(self) -> NDArray[np.int64]:
        """All that are allowed, ascending, int64 [count]."""
        allowed = np.ones(len(self.marks), np.bool_) if self.mask is None else self.mask.copy()
        allowed[self.removed] = False
        return np.flatnonzero(allowed)


NOTHING = np.empty(0, np.int64)
NONE_ALLOWED = Allowed(None, NOTHING, 0, np.empty(0, np.bool_))


def allowed_items(marks: Mask, found: "FilterMask | None", removed: Sequence[NDArray[np.int64]]) -> Allowed:
    """What may be on the list: inside the filter's mask, and in none of the arrays of item indices (-1 is skipped).

    marks: as Allowed has them.
    """
    out = kernels.removed_items(removed)
    if found is None:
        return Allowed(None, out, len(marks) - len(out), marks)
    out = out[found.mask[out]]
    return Allowed(found.mask, out, found.num_items - len(out), marks)


class FilterMask(NamedTuple):
    """mask: bool [N], read-only.  num_items: how many it lets through."""

    mask: Mask
    num_items: int


class MaskCache:
    """The masks of recently used filters, bounded in bytes; used by the compute thread alone."""

    def __init__(self, stored: dict[str, tuple[NDArray[Any], list[Any]]], max_bytes: int) -> None:
        """stored: as for index_columns."""
        self._columns = index_columns(stored)
        self._kept: Kept[FilterMask] = Kept(max_bytes)

    def find(self, parts: Node) -> FilterMask:
        key = parts.model_dump_json()
        found = self._kept.get(key)
        if found is None:
            mask = filter_mask(parts, self._columns)
            mask.flags.writeable = False
            found = FilterMask(mask, int(np.count_nonzero(mask)))
            self._kept.put(key, found, mask.nbytes + len(key))
        return found


def _kind(value: Any) -> str:
    """JSON's true is not 1, although Python's is; 1 and 1.0 are one number."""
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
