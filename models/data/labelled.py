"""A labelled table, ready-made: [labelled] of `shortlist.toml` becomes arrays that a ranking model learns from."""

import hashlib
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.data.clean import finite_number
from models.data.encode import encode_values, feature_values, make_vocabulary
from models.data.errors import SourceError
from models.data.feature_columns import CategoricalColumn
from models.data.sections import LabelledSection
from models.data.sources import connect, read_source, require_columns
from models.ranking.labelled import LabelledRows


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """user_sizes, item_sizes: codes of each categorical feature by name, one more than train has values: 0 is unknown.
    cross: names of the numbers, standardised on train.  test: None where the section names none.
    fingerprint: SHA-256 of all arrays, which depends on neither the order of the lines nor the kind of file.
    """

    user_sizes: dict[str, int]
    item_sizes: dict[str, int]
    cross: list[str]
    train: LabelledRows
    valid: LabelledRows
    test: LabelledRows | None
    fingerprint: str


def read_labelled(section: LabelledSection) -> LabelledTable:
    """Read all parts; their rows are sorted by all columns. Raises SourceError naming the file and the column."""
    train = _read(section.train, section)
    valid = _read(section.valid, section)
    test = _read(section.test, section) if section.test is not None else None
    vocabularies = {name: make_vocabulary(train[name], 1)[0] for name in (*section.user, *section.item)}
    numbers = _numbers(train, section.cross)
    mean, std = numbers.mean(axis=0), numbers.std(axis=0)
    scale = mean, np.where(std > 0, std, 1.0)
    rows = [_encode(part, section, vocabularies, scale) for part in (train, valid, test) if part is not None]
    if section.valid_halved_seed is not None:
        rows[1:] = _halves(rows[1], section.valid_halved_seed, section.valid)
    sizes = {name: 1 + len(vocabulary) for name, vocabulary in vocabularies.items()}
    return LabelledTable(
        user_sizes={name: sizes[name] for name in section.user},
        item_sizes={name: sizes[name] for name in section.item},
        cross=section.cross,
        train=rows[0],
        valid=rows[1],
        test=rows[2] if len(rows) > 2 else None,
        fingerprint=_fingerprint(rows),
    )


def _read(path: str, section: LabelledSection) -> pa.Table:
    """The columns under their names: text of the categorical ones, float64 of label and cross; sorted by all."""
    categories = [*section.user, *section.item]
    numbers = [section.label, *section.cross]
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            # as in prepare.py
            warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
            connection = connect(Path(scratch))
            table = read_source(connection, path, categories)
            require_columns(table, path, [*numbers, *categories])
            columns = [CategoricalColumn(kind="categorical", name=name) for name in categories]
            values = feature_values(table, path, columns)
            values |= {f"number_{i}": finite_number(table, path, name) for i, name in enumerate(numbers)}
            rows = connection.to_pyarrow(table.select(**values).order_by(list(values)))
            connection.disconnect()
    except duckdb.Error as error:  # Parquet is read late
        raise SourceError(f"{path}: cannot be read: {' '.join(str(error).splitlines()[:3])}") from error
    if not len(rows):
        raise SourceError(f"{path}: has no rows")
    for i, name in enumerate(numbers):
        if missing := rows[f"number_{i}"].null_count:
            raise SourceError(
                f"{path}: column {name!r} is missing or no finite number in {missing:,} of {len(rows):,} rows; "
                "fill it in or leave these rows out"
            )
    return rows.rename_columns([*categories, *numbers])


def _encode(
    rows: pa.Table,
    section: LabelledSection,
    vocabularies: dict[str, list[str]],
    scale: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> LabelledRows:
    mean, std = scale
    none = np.zeros((len(rows), 0), np.float32)
    return LabelledRows(
        user_categorical=_codes(rows, section.user, vocabularies),
        user_numeric=none,
        item_categorical=_codes(rows, section.item, vocabularies),
        item_numeric=none,
        cross=((_numbers(rows, section.cross) - mean) / std).astype(np.float32),
        labels=rows[section.label].to_numpy().astype(np.float32),
    )


def _codes(rows: pa.Table, names: Sequence[str], vocabularies: dict[str, list[str]]) -> NDArray[np.int64]:
    return np.stack([encode_values(rows[name], vocabularies[name]) for name in names], axis=1).astype(np.int64)


def _numbers(rows: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([rows[name].to_numpy() for name in names], axis=1) if names else np.zeros((len(rows), 0))


def _halves(valid: LabelledRows, seed: int, path: str) -> list[LabelledRows]:
    """Validation and test; an odd row goes to the test."""
    if len(valid) < 2:
        raise SourceError(f"{path}: has {len(valid)} row, which cannot be halved; leave valid_halved_seed out")
    drawn = np.random.default_rng(seed).permutation(len(valid)) < len(valid) // 2
    return [valid.where(drawn), valid.where(~drawn)]


def _fingerprint(parts: Sequence[LabelledRows]) -> str:
    digest = hashlib.sha256()
    for rows in parts:
        for name in rows.__slots__:
            array = np.ascontiguousarray(getattr(rows, name))
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
