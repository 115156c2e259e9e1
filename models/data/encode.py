"""Columns of values to codes and standardised numbers, with vocabularies from before the test split only."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, TypeVar

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.schema import CategoricalFeature, ItemFeature, NumericFeature, TextFeature, VectorFeature
from models.data.clean import finite_number
from models.data.errors import SourceError
from models.data.feature_columns import (
    CategoricalColumn,
    ItemFeatureColumn,
    MultiColumn,
    NumericColumn,
    TextColumn,
    VectorColumn,
)
from models.data.item_values import CATEGORIES, encode_multi, encode_text, encode_vectors, number_list, text_list

Scalar = TypeVar("Scalar", np.int32, np.float32)


@dataclass(frozen=True, slots=True)
class Encoded:
    """features: as in the schema.  categorical: int32 [n, Fc].  numeric: float32 [n, Fn].

    By feature: multi int32 [n, m], text, vectors float32 [n, dim], rare values, and values cut off by max_values.
    """

    features: list[ItemFeature]
    categorical: NDArray[np.int32]
    numeric: NDArray[np.float32]
    multi: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    text: dict[str, BytesColumn] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)


def feature_values(table: ir.Table, path: str, columns: Sequence[ItemFeatureColumn]) -> dict[str, ir.Value]:
    """Expressions feature_0, feature_1, ...: text, float64, lists of text and lists of numbers, by the kind."""
    return {f"feature_{place}": _value(table, path, column) for place, column in enumerate(columns)}


def _value(table: ir.Table, path: str, column: ItemFeatureColumn) -> ir.Value:
    if isinstance(column, NumericColumn):
        return finite_number(table, path, column.name)
    if isinstance(column, MultiColumn):
        return text_list(table, path, column)
    if isinstance(column, VectorColumn):
        return number_list(table, path, column)
    kind = table[column.name].type()
    if not isinstance(kind, CATEGORIES):
        raise SourceError(f"{path}: column {column.name!r} is {kind}; a {column.kind} feature is text or a number")
    return table[column.name].cast("string")


def encode_features(rows: pa.Table, columns: Sequence[ItemFeatureColumn], known: NDArray[np.bool_]) -> Encoded:
    """Encode feature_0, ... of `rows`, in its order.

    known: bool [n], rows that may teach values: those that were interacted with before the test split.
    """
    found = Encoded([], np.zeros((len(rows), 0), np.int32), np.zeros((len(rows), 0), np.float32))
    codes: list[NDArray[np.int32]] = []
    numbers: list[NDArray[np.float32]] = []
    for place, column in enumerate(columns):
        values = rows.column(f"feature_{place}").combine_chunks()
        name = column.name
        feature: ItemFeature
        if isinstance(column, CategoricalColumn):
            vocabulary, found.rare[name] = make_vocabulary(values.filter(pa.array(known)), column.min_count)
            feature = CategoricalFeature(name=name, vocabulary=vocabulary)
            codes.append(encode_values(values, vocabulary))
        elif isinstance(column, NumericColumn):
            feature, scaled = _standardise(name, _to_float64(values), known)
            numbers.append(scaled)
        elif isinstance(column, MultiColumn):
            feature, found.multi[name], found.rare[name], found.cut[name] = encode_multi(values, column, known)
        elif isinstance(column, TextColumn):
            feature, found.text[name] = TextFeature(name=name), encode_text(values)
        else:
            feature = VectorFeature(name=name, dim=column.dim)
            found.vectors[name] = encode_vectors(values, column.dim)
        found.features.append(feature)
    return replace(
        found,
        categorical=_columns(codes, len(rows), np.int32),
        numeric=_columns(numbers, len(rows), np.float32),
    )


def with_ids(encoded: Encoded, name: str, ids: list[str], known: NDArray[np.bool_]) -> Encoded:
    """One more categorical feature: the id itself, where it was known before the test split."""
    vocabulary = sorted(compress(ids, known.tolist()))
    codes = encode_values(pa.array(ids, pa.string()), vocabulary)
    return replace(
        encoded,
        features=[*encoded.features, CategoricalFeature(name=name, vocabulary=vocabulary, is_id=True)],
        categorical=np.column_stack([encoded.categorical, codes]),
    )


def make_vocabulary(values: pa.Array, min_count: int) -> tuple[list[str], int]:
    """Values in the order of their code points, and how many others occur fewer than `min_count` times."""
    counted = pc.value_counts(values.drop_null()).to_pylist()
    frequent = sorted(entry["values"] for entry in counted if entry["counts"] >= min_count)
    return frequent, len(counted) - len(frequent)


def encode_values(values: pa.Array | pa.ChunkedArray, vocabulary: list[str]) -> NDArray[np.int32]:
    """int32 [n]: 1 + position in the vocabulary, 0 for what it does not have."""
    return positions(values, vocabulary) + np.int32(1)


def positions(values: pa.Array | pa.ChunkedArray, vocabulary: list[Any]) -> NDArray[np.int32]:
    """int32 [n]: position in the vocabulary, -1 for what it does not have."""
    found = pc.index_in(values, value_set=pa.array(vocabulary, values.type))
    result: NDArray[np.int32] = pc.fill_null(found, -1).to_numpy().astype(np.int32, copy=False)
    return result


def _standardise(
    name: str, values: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NumericFeature, NDArray[np.float32]]:
    present = values[known & np.isfinite(values)]
    # Summed in the order of ids, which does not depend on the input's order.
    mean = float(present.mean()) if len(present) else 0.0
    spread = float(present.std()) if len(present) else 0.0
    std = spread if spread > 0 else 1.0
    scaled = (values - mean) / std
    return NumericFeature(name=name, mean=mean, std=std), np.where(np.isfinite(scaled), scaled, 0).astype(np.float32)


def _to_float64(values: pa.Array) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = pc.fill_null(values, float("nan")).to_numpy()
    return numbers


def _columns(parts: list[NDArray[Scalar]], length: int, dtype: type[Scalar]) -> NDArray[Scalar]:
    return np.stack(parts, axis=1) if parts else np.zeros((length, 0), dtype)
