"""Columns of values to codes and standardised numbers, with vocabularies from before the test split only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.contract.schema import CategoricalFeature, Feature, NumericFeature
from models.data.clean import finite_number
from models.data.config import CategoricalColumn, FeatureColumn
from models.data.errors import SourceError

Scalar = TypeVar("Scalar", np.int32, np.float32)
_CATEGORIES = (dt.String, dt.Integer, dt.Boolean, dt.Floating, dt.Decimal, dt.Date, dt.UUID)


@dataclass(frozen=True, slots=True)
class Encoded:
    """features: as in the schema.  categorical: int32 [n, Fc].  numeric: float32 [n, Fn].  rare: values by feature."""

    features: list[Feature]
    categorical: NDArray[np.int32]
    numeric: NDArray[np.float32]
    rare: dict[str, int]


def feature_values(table: ir.Table, path: str, columns: Sequence[FeatureColumn]) -> dict[str, ir.Value]:
    """Expressions feature_0, feature_1, ...: text of the categorical columns, float64 of the numeric ones."""
    values: dict[str, ir.Value] = {}
    for place, column in enumerate(columns):
        if column.kind == "numeric":
            values[f"feature_{place}"] = finite_number(table, path, column.name)
            continue
        if not isinstance(table[column.name].type(), _CATEGORIES):
            kind = table[column.name].type()
            raise SourceError(f"{path}: column {column.name!r} is {kind}; a categorical feature is text or a number")
        values[f"feature_{place}"] = table[column.name].cast("string")
    return values


def encode_features(rows: pa.Table, columns: Sequence[FeatureColumn], known: NDArray[np.bool_]) -> Encoded:
    """Encode feature_0, ... of `rows`, in its order.

    known: bool [n], rows that may teach values: those that were interacted with before the test split.
    """
    features: list[Feature] = []
    codes: list[NDArray[np.int32]] = []
    numbers: list[NDArray[np.float32]] = []
    rare: dict[str, int] = {}
    for place, column in enumerate(columns):
        values = rows.column(f"feature_{place}").combine_chunks()
        if isinstance(column, CategoricalColumn):
            vocabulary, num_rare = make_vocabulary(values.filter(pa.array(known)), column.min_count)
            features.append(CategoricalFeature(name=column.name, vocabulary=vocabulary))
            codes.append(encode_values(values, vocabulary))
            if num_rare:
                rare[column.name] = num_rare
        else:
            feature, scaled = _standardise(column.name, _to_float64(values), known)
            features.append(feature)
            numbers.append(scaled)
    return Encoded(features, _columns(codes, len(rows), np.int32), _columns(numbers, len(rows), np.float32), rare)


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
