"""Columns that only items have: several categories, free text, and vectors made elsewhere."""

from collections.abc import Sequence

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.schema import MultiFeature
from models.data.clean import MAX_NUMBER
from models.data.errors import SourceError
from models.data.feature_columns import ItemFeatureColumn, MultiColumn, VectorColumn

CATEGORIES = (dt.String, dt.Integer, dt.Boolean, dt.Floating, dt.Decimal, dt.Date, dt.UUID)


def text_list(table: ir.Table, path: str, column: MultiColumn) -> ir.ArrayValue:
    """The values of each row as a list of texts."""
    values, kind = table[column.name], table[column.name].type()
    if isinstance(kind, dt.Array) and isinstance(kind.value_type, CATEGORIES):
        if column.separator is not None:
            raise SourceError(f"{path}: column {column.name!r} is a list; leave its separator out")
        return values.cast("array<string>")
    if not isinstance(kind, CATEGORIES):
        raise SourceError(f"{path}: column {column.name!r} is {kind}; a multi feature is a list or separated text")
    if column.separator is None:
        raise SourceError(f"{path}: column {column.name!r} is {kind} and no list; say what its separator is")
    return values.cast("string").split(column.separator)


def number_list(table: ir.Table, path: str, column: VectorColumn) -> ir.ArrayValue:
    """The vectors as lists of float32 or float64."""
    values, kind = table[column.name], table[column.name].type()
    if not (isinstance(kind, dt.Array) and isinstance(kind.value_type, dt.Numeric)):
        raise SourceError(f"{path}: column {column.name!r} is {kind}; a vector is a list of numbers, as in Parquet")
    # An array of fixed length becomes a list too: only lists can be filtered.
    kept = kind.value_type if isinstance(kind.value_type, dt.Float32) else dt.float64
    return values.cast(dt.Array(kept))


def vector_reason(rows: ir.Table, columns: Sequence[ItemFeatureColumn]) -> ir.StringValue:
    """What is wrong with the vectors feature_0, ... of each row: null where nothing is. A missing one is not wrong."""
    reasons: list[tuple[ir.BooleanValue, str]] = []
    for place, column in enumerate(columns):
        if isinstance(column, VectorColumn):
            vector = rows[f"feature_{place}"]
            wrong = vector.filter(lambda x: x.isnull() | x.isnan() | (x.abs() > MAX_NUMBER))
            reasons.append((vector.length() != column.dim, f"{column.name} does not have {column.dim} numbers"))
            reasons.append((wrong.length() > 0, f"{column.name} has a number that is not finite"))
    return ibis.cases(*reasons) if reasons else ibis.null("string")


def encode_multi(
    values: pa.ListArray, column: MultiColumn, known: NDArray[np.bool_]
) -> tuple[MultiFeature, NDArray[np.int32], int, int]:
    """The feature, its codes int32 [n, m] padded with 0, the number of rare values, and of cells beyond max_values.

    An item has each value once, in the order given. known: bool [n], rows that may teach values.
    """
    texts = pc.utf8_trim_whitespace(pc.list_flatten(values))
    given = pc.fill_null(pc.not_equal(texts, ""), False).to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(values).to_numpy()[given].astype(np.int64)
    coded = texts.filter(pa.array(given)).dictionary_encode()
    names, places = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    first = np.sort(np.unique(rows * max(len(names), 1) + places, return_index=True)[1])
    rows, places = rows[first], places[first]
    counts = np.bincount(places[known[rows]], minlength=len(names))
    vocabulary = sorted(name for name, count in zip(names, counts.tolist(), strict=True) if count >= column.min_count)
    code_of = {name: code for code, name in enumerate(vocabulary, 1)}
    codes = np.array([code_of.get(name, 0) for name in names], np.int32)[places]
    rows, codes = rows[codes > 0], codes[codes > 0]
    slots = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = slots < column.max_values
    encoded = np.zeros((len(values), int(slots[kept].max(initial=0)) + 1), np.int32)
    encoded[rows[kept], slots[kept]] = codes[kept]
    feature = MultiFeature(name=column.name, vocabulary=vocabulary, length=encoded.shape[1])
    num_rare = int(np.count_nonzero((counts > 0) & (counts < column.min_count)))
    return feature, encoded, num_rare, int(np.count_nonzero(~kept))


def encode_text(values: pa.Array) -> BytesColumn:
    """UTF-8; a missing text is empty."""
    return BytesColumn.of((value or "").encode() for value in values.to_pylist())


def encode_vectors(values: pa.ListArray, dim: int) -> NDArray[np.float32]:
    """float32 [n, dim]; a missing vector is all zeros."""
    vectors = np.zeros((len(values), dim), np.float32)
    present = values.is_valid().to_numpy(zero_copy_only=False)
    vectors[present] = pc.list_flatten(values).to_numpy().reshape(-1, dim)
    return vectors
