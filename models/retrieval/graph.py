"""The graph that LightGCN and GCN propagate over: users, items, and edges of three kinds between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """The edges of each row.  indices: int64 [E], columns, row by row.  offsets: int64 [R + 1]."""

    indices: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, rows: NDArray[np.int64], columns: NDArray[np.int64], num_rows: int) -> "_Neighbours":
        order = np.lexsort((columns, rows))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))])
        return cls(torch.from_numpy(columns[order]), torch.from_numpy(offsets))

    def each(self, to: Callable[[Tensor], Tensor]) -> "_Neighbours":
        return _Neighbours(to(self.indices), to(self.offsets))

    def sum(self, vectors: Tensor) -> Tensor:
        """Sum of each row's neighbours: vectors [C, d] -> [R, d]; zero for a row without any.

        A product with a 0/1 matrix in CSR form, which this is, runs 1.5 times as long as the bag of embeddings.
        """
        return F.embedding_bag(self.indices, vectors, self.offsets, mode="sum", include_last_offset=True)


class _Sum(torch.autograd.Function):
    """Neighbours' sums whose gradient is the same sum the other way, instead of a scatter over all edges."""

    @staticmethod
    def forward(ctx: "torch.autograd.function.FunctionCtx", vectors: Tensor, relation: "Relation") -> Tensor:
        ctx.backward_edges = relation.to_columns  # type: ignore[attr-defined]
        return relation.to_rows.sum(vectors)

    @staticmethod
    def backward(ctx: "torch.autograd.function.FunctionCtx", *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.backward_edges.sum(gradients[0].contiguous()), None  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Relation:
    """Edges of one kind between R rows and C columns, normalised symmetrically: D_r^-1/2 A D_c^-1/2 (Kipf and
    Welling 2017), where a degree counts the edges of this kind alone.

    to_rows, to_columns: the same edges from either side.  row_scale float32 [R, 1], column_scale float32 [C, 1]:
    1 / sqrt(degree), of a degree of at least 1.
    """

    to_rows: _Neighbours
    to_columns: _Neighbours
    row_scale: Tensor
    column_scale: Tensor

    @classmethod
    def between(
        cls,
        rows: NDArray[np.integer],
        columns: NDArray[np.integer],
        num_rows: int,
        num_columns: int,
    ) -> "Relation":
        """Edges counted once each, however often they are given.  rows, columns: int [E].

        Raises ValueError for an index out of range.
        """
        for name, given, limit in (("rows", rows, num_rows), ("columns", columns, num_columns)):
            if len(given) and not 0 <= int(given.min()) <= int(given.max()) < limit:
                raise ValueError(
                    f"{name} of an edge are {given.min()}..{given.max()}; indices go from 0 to {limit - 1}"
                )
        pairs = np.unique(rows.astype(np.int64) * num_columns + columns)
        one, other = pairs // max(num_columns, 1), pairs % max(num_columns, 1)
        return cls(
            _Neighbours.of(one, other, num_rows),
            _Neighbours.of(other, one, num_columns),
            _scale(one, num_rows),
            _scale(other, num_columns),
        )

    @classmethod
    def among(cls, edges: NDArray[np.integer], num_nodes: int) -> "Relation":
        """Edges int [E, 2] among nodes of one kind, taken in both directions; one from a node to itself is dropped."""
        edges = edges[edges[:, 0] != edges[:, 1]]
        both = np.concatenate([edges, edges[:, ::-1]])
        return cls.between(both[:, 0], both[:, 1], num_nodes, num_nodes)

    def __call__(self, vectors: Tensor) -> Tensor:
        """From columns to rows: vectors float32 [C, d] -> [R, d]."""
        summed: Tensor = _Sum.apply(vectors * self.column_scale, self)  # type: ignore[no-untyped-call]
        return summed * self.row_scale

    @property
    def reversed(self) -> "Relation":
        """The same edges from rows to columns."""
        return Relation(self.to_columns, self.to_rows, self.column_scale, self.row_scale)

    def __len__(self) -> int:
        """Edges, each counted once from the rows' side."""
        return len(self.to_rows.indices)

    def row_degree(self) -> NDArray[np.int64]:
        """Edges of each row, int64 [R]."""
        return np.diff(self.to_rows.offsets.cpu().numpy())

    def each(self, to: Callable[[Tensor], Tensor]) -> "Relation":
        """With each of its tensors as `to` gives it: on another device."""
        return Relation(self.to_rows.each(to), self.to_columns.each(to), to(self.row_scale), to(self.column_scale))


class Graph(NamedTuple):
    """U users, N items.  to_users: U rows, N columns.  to_items: the reverse.  social, similar: among users and among
    items, None where there are no such edges."""

    to_users: Relation
    to_items: Relation
    social: Relation | None
    similar: Relation | None

    @classmethod
    def of(
        cls,
        pairs: tuple[NDArray[np.integer], NDArray[np.integer]],
        num_users: int,
        num_items: int,
        social_edges: NDArray[np.integer],
        item_edges: NDArray[np.integer],
    ) -> "Graph":
        """pairs: users and items of the interactions.  social_edges, item_edges: int [E, 2], possibly empty."""
        to_users = Relation.between(*pairs, num_users, num_items)
        social = Relation.among(social_edges, num_users) if len(social_edges) else None
        similar = Relation.among(item_edges, num_items) if len(item_edges) else None
        return cls(to_users, to_users.reversed, social, similar)

    def each(self, to: Callable[[Tensor], Tensor]) -> "Graph":
        """With each of its tensors as `to` gives it."""
        to_users = self.to_users.each(to)
        among = [None if relation is None else relation.each(to) for relation in (self.social, self.similar)]
        return Graph(to_users, to_users.reversed, *among)

    @property
    def num_users(self) -> int:
        return len(self.to_users.row_scale)

    @property
    def num_items(self) -> int:
        return len(self.to_users.column_scale)


def _scale(ends: NDArray[np.int64], count: int) -> Tensor:
    degree = np.bincount(ends, minlength=count)
    return torch.from_numpy((1.0 / np.sqrt(np.maximum(degree, 1))).astype(np.float32)).unsqueeze(1)
