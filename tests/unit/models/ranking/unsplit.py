"""Every ranking model as its paper writes it, over all fields at once, in NumPy and float64: what the three pieces are
compared with. Only the weights are taken from the model."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.ranking.inputs import Fields, RankerInputs
from models.ranking.pieces import Ranker

Floats = NDArray[np.float64]


class Candidate(NamedTuple):
    """One row: codes and numbers of its user and of its item, and its cross features."""

    user_codes: Sequence[int]
    user_numbers: Floats
    item_codes: Sequence[int]
    item_numbers: Floats
    cross: Floats


def num(tensor: torch.Tensor | Any) -> Floats:
    return tensor.detach().double().numpy()


def lookup(embedding: Any, fields: Fields, codes: Sequence[int], numbers: Floats) -> list[Floats]:
    """The vectors of a side's fields: rows of the table, each field's codes behind those of the fields before it; of a
    multi-valued field the mean of as many as it has values."""
    table, numeric, left = num(embedding.table), num(embedding.numeric), list(codes)
    vectors, start = [], 0
    for size in fields.sizes.values():
        vectors.append(table[start + left.pop(0)])
        start += size
    for size, length in fields.multi.values():
        values = [code for code in (left.pop(0) for _ in range(length)) if code]
        total = sum((table[start + code] for code in values), np.zeros(table.shape[1]))
        vectors.append(total / max(1, len(values)))
        start += size
    assert not left
    return vectors + [numeric[place] * value for place, value in enumerate(numbers)]


class Unsplit:
    """The formulas.  halves: the model's user and item halves of one term, by its place among the terms."""

    def __init__(self, name: str, model: Ranker, inputs: RankerInputs, crosses: list[list[str]]) -> None:
        self.model, self.inputs, self.crosses = model, inputs, crosses
        self.formula: Callable[[Candidate], float] = getattr(self, "mlp_model" if name == "mlp" else name)

    def __call__(self, row: Candidate) -> float:
        head = self.model.head_module
        return self.formula(row) + num(head.bias)[0] + num(head.cross_weight) @ row.cross

    def halves(self, place: int) -> tuple[Any, Any]:
        return self.model.user_module.halves[place], self.model.item_module.halves[place]

    def head(self, place: int) -> Any:
        return self.model.head_module.terms[place]

    def fields(self, row: Candidate) -> list[Floats]:
        """The vectors of the user's fields, then of the item's."""
        user, item = self.model.user_module.embedding, self.model.item_module.embedding
        return lookup(user, self.inputs.user, row.user_codes, row.user_numbers) + lookup(
            item, self.inputs.item, row.item_codes, row.item_numbers
        )

    def weights(self, row: Candidate, place: int = 0) -> Floats:
        user, item = (half.weights for half in self.halves(place))
        return np.array(
            lookup(user, self.inputs.user, row.user_codes, row.user_numbers)
            + lookup(item, self.inputs.item, row.item_codes, row.item_numbers)
        ).reshape(-1)

    def mlp(self, first: Floats, mlp: Any) -> float:
        hidden = first
        for number, norm in enumerate(mlp.norms):
            if number:
                layer = mlp.layers[number - 1]
                hidden = num(layer.weight) @ hidden + num(layer.bias)
            if isinstance(norm, nn.BatchNorm1d):
                scaled = (hidden - num(norm.running_mean)) / np.sqrt(num(norm.running_var) + norm.eps)
                hidden = scaled * num(norm.weight) + num(norm.bias)
            hidden = np.maximum(hidden, 0)
        return float(num(mlp.out.weight)[0] @ hidden)

    def deep(self, inputs: list[Floats], cross: Floats, firsts: Sequence[Any], head: Any) -> float:
        """A perceptron over everything concatenated; its first layer's columns stand in three places."""
        columns = np.concatenate([*(num(first.weight) for first in firsts), num(head.first.weight)], 1)
        return self.mlp(columns @ np.concatenate([*inputs, cross]) + num(head.bias), head.mlp)

    def lr(self, row: Candidate) -> float:
        return float(self.weights(row).sum())

    def pairs(self, row: Candidate, head: Any) -> float:
        vectors = self.fields(row) + [vector * x for vector, x in zip(num(head.cross), row.cross, strict=True)]
        return float(sum(vectors[a] @ vectors[b] for a in range(len(vectors)) for b in range(a)))

    def fm(self, row: Candidate) -> float:
        return self.lr(row) + self.pairs(row, self.head(0))

    def ffm(self, row: Candidate) -> float:
        """vectors[a][b]: of field a for field b."""
        total = self.inputs.fields
        dim = self.model.user_module.embedding.dim // total
        vectors = [vector.reshape(total, dim) for vector in self.fields(row)]
        user, item = (num(half.cross_vectors) for half in self.halves(1))
        for place, x in enumerate(row.cross):
            own = num(self.head(0).cross)[place]
            vectors.append(x * np.concatenate([user[:, place], item[:, place], own]))
        products = (vectors[a][b] @ vectors[b][a] for a in range(total) for b in range(a))
        return self.lr(row) + float(sum(products))

    def fnn(self, row: Candidate) -> float:
        inputs = [np.append(weight, vector) for weight, vector in zip(self.weights(row), self.fields(row), strict=True)]
        return self.deep(inputs, row.cross, [half.layer.first for half in self.halves(0)], self.head(0))

    def deepfm(self, row: Candidate) -> float:
        deep = self.deep(self.fields(row), row.cross, [half.first for half in self.halves(2)], self.head(1))
        return self.lr(row) + self.pairs(row, self.head(0)) + deep

    def ipnn(self, row: Candidate) -> float:
        return self._product(row, inner=0)

    def opnn(self, row: Candidate) -> float:
        return self._product(row, outer=0)

    def pnn(self, row: Candidate) -> float:
        return self._product(row, inner=0, outer=1)

    def _product(self, row: Candidate, inner: int | None = None, outer: int | None = None) -> float:
        head = self.head(0)
        halves = self.halves(0)
        columns = np.concatenate([*(num(half.first.first.weight) for half in halves), num(head.first.weight)], 1)
        first = columns @ np.concatenate([*self.fields(row), row.cross]) + num(head.bias)
        if inner is not None:
            cross = [v * x for v, x in zip(num(head.products[inner].cross), row.cross, strict=True)]
            first = first + self._inner(self.fields(row) + cross, [half.products[inner] for half in halves], inner)
        if outer is not None:
            cross = [v * x for v, x in zip(num(head.products[outer].cross), row.cross, strict=True)]
            total = np.sum([np.zeros(num(head.products[outer].cross).shape[1]), *self.fields(row), *cross], axis=0)
            first = first + num(head.products[outer].weights.weight) @ np.outer(total, total).reshape(-1)
        return self.mlp(first, head.mlp)

    def _inner(self, vectors: list[Floats], halves: list[Any], place: int) -> Floats:
        """W_p p; the columns of W_p stand pair by pair, first within the user, within the item, then the head's."""
        users, items, cross = self.inputs.user_fields, self.inputs.item_fields, self.inputs.cross
        user, item = range(users), range(users, users + items)
        numbers = range(users + items, users + items + cross)
        order = [(a, b) for group in (user, item) for a in group for b in group if a < b]
        order += [(a, b) for one, other in ((user, item), (user, numbers), (item, numbers)) for a in one for b in other]
        order += [(a, b) for a in numbers for b in numbers if a < b]
        weights = [*(half.weights.weight for half in halves), self.head(0).products[place].weights.weight]
        columns = np.concatenate([num(weight) for weight in weights], 1)
        return columns @ np.array([vectors[a] @ vectors[b] for a, b in order])

    def wide_deep(self, row: Candidate) -> float:
        first = [half.first for half in self.halves(2)]
        across = len(self.halves(1)[0].across)
        deep = self.deep(self.fields(row), row.cross, first, self.head(1 if across else 0))
        return self.lr(row) + self._crossed(row) + deep

    def _crossed(self, row: Candidate) -> float:
        """A weight for every pair of values: of one side in one column, of both sides in a table."""
        names = list(self.inputs.user_sizes), list(self.inputs.item_sizes)
        codes = dict(zip(names[0], row.user_codes, strict=True)) | dict(zip(names[1], row.item_codes, strict=False))
        total, seen = 0.0, {"user": 0, "item": 0, "both": 0}
        user, item = self.halves(1)
        for a, b in self.crosses:
            if (a in names[0]) == (b in names[0]):
                half, kind = (user, "user") if a in names[0] else (item, "item")
                size = {**self.inputs.user_sizes, **self.inputs.item_sizes}[b]
                total += num(half.own_tables[seen[kind]])[codes[a] * size + codes[b], 0]
            else:
                kind = "both"
                of_user, of_item = (a, b) if a in names[0] else (b, a)
                by_user, by_item = num(user.tables[seen[kind]]), num(item.tables[seen[kind]])
                picked = (by_user, (codes[of_user], codes[of_item])), (by_item, (codes[of_item], codes[of_user]))
                ((table, place),) = [(table, place) for table, place in picked if table.size]
                total += table[place]
            seen[kind] += 1
        return total

    def _id_vectors(self, row: Candidate) -> tuple[Floats, Floats]:
        place = list(self.inputs.user_sizes).index("user_id"), list(self.inputs.item_sizes).index("item_id")
        user, item = num(self.model.user_module.embedding.table), num(self.model.item_module.embedding.table)
        return user[row.user_codes[place[0]]], item[row.item_codes[place[1]]]

    def gmf(self, row: Candidate) -> float:
        user, item = self._id_vectors(row)
        dim = self.halves(0)[0].width
        return float(num(self.halves(0)[0].weights) @ (user[:dim] * item[:dim]))

    def mlp_model(self, row: Candidate, place: int = 0, start: int = 0) -> float:
        inputs = [vector[start:] for vector in self._id_vectors(row)]
        return self.deep(inputs, np.zeros(0), [half.first for half in self.halves(place)], self.head(place))

    def neumf(self, row: Candidate) -> float:
        return self.gmf(row) + self.mlp_model(row, 1, self.halves(0)[0].width)
