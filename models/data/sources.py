"""Opening a team's Parquet and CSV files as Ibis tables."""

from collections.abc import Iterable
from glob import glob
from pathlib import Path

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from models.data.config_errors import suggestion
from models.data.csv_files import read_csv
from models.data.errors import SourceError

_FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv"}


def connect(scratch: Path) -> Backend:
    """An in-memory DuckDB that spills into `scratch` and reads every time without a zone as UTC."""
    connection = ibis.duckdb.connect(temp_directory=str(scratch / "duckdb"))
    connection.raw_sql("SET TimeZone = 'UTC'")
    return connection


def source_files(path: str) -> list[Path]:
    """The files that a path or glob names, sorted. Raises SourceError if there is none."""
    files = [Path(name) for name in sorted(glob(path, recursive=True)) if Path(name).is_file()]
    if not files:
        raise SourceError(f"{path}: no such file; a relative path starts at the folder of shortlist.toml")
    return files


def read_source(connection: Backend, path: str, text_columns: Iterable[str] | None = None) -> ir.Table:
    """The table in the files of `path`.

    text_columns: CSV columns that stay text, so that the id 007 keeps its zeros; None keeps all of them text. Types of
    the other CSV columns are told from all their values. Raises SourceError naming the file.
    """
    files = source_files(path)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise SourceError(f"{path}: names both Parquet and CSV files; keep one kind")
    try:
        if kinds == {"parquet"}:
            return connection.read_parquet([str(file) for file in files])
        return read_csv(connection, files, text_columns)
    except (OSError, UnicodeDecodeError, duckdb.Error, ibis.common.exceptions.IbisError) as error:
        raise SourceError(f"{path}: cannot be read: {' '.join(str(error).splitlines()[:3])}") from error


def is_parquet(path: str) -> bool:
    return all(_kind(file) == "parquet" for file in source_files(path))


def require_columns(table: ir.Table, path: str, columns: Iterable[str]) -> None:
    """Raise SourceError if a column of shortlist.toml is not in the file."""
    for column in columns:
        if column not in table.columns:
            raise SourceError(f"{path}: no column {column!r}{suggestion(column, list(table.columns))}")


def id_column(table: ir.Table, path: str, column: str) -> ir.StringColumn:
    """A column of ids as strings. Raises SourceError unless it holds text or whole numbers."""
    values = table[column]
    if not isinstance(values.type(), dt.String | dt.Integer | dt.UUID):
        raise SourceError(f"{path}: column {column!r} is {values.type()}; ids are text or whole numbers")
    return values.cast("string")


def _kind(file: Path) -> str:
    kind = _FORMATS.get(Path(file.name.lower().removesuffix(".gz")).suffix)
    if kind is None:
        raise SourceError(f"{file}: unknown kind of file; Parquet (.parquet) and CSV (.csv, .csv.gz) can be read")
    return kind
