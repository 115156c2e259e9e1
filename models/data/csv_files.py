"""CSV as a table of text, and the types that its values allow."""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from models.data.errors import SourceError

_DELIMITERS = (",", ";", "\t", "|")
_TYPES = ("int64", "float64", "boolean")


def read_csv(connection: Backend, files: list[Path], text_columns: Iterable[str] | None) -> ir.Table:
    """All columns as text if `text_columns` is None; else the others get the type that all their values have.

    Raises SourceError if the files have different headers.
    """
    delimiter, header = _header(files[0])
    for file in files[1:]:
        if _header(file) != (delimiter, header):
            raise SourceError(f"{file}: has other columns than {files[0].name}; give all files the same header line")
    # Nothing is left to DuckDB's sniffer: it takes good lines before a torn one for a preamble, and skips them.
    lines = connection.read_csv(
        [str(file) for file in files],
        columns=dict.fromkeys(header, "VARCHAR"),
        auto_detect=False,
        delim=delimiter,
        quote='"',
        escape='"',
        header=True,
    )
    # A table of its own: DuckDB pushes casts down into the CSV reader, where TRY_CAST fails instead of giving NULL.
    table = connection.create_table(ibis.util.gen_name("csv"), lines, temp=True)
    return table if text_columns is None else _with_types(connection, table, set(text_columns))


def _header(file: Path) -> tuple[str, list[str]]:
    """The delimiter, which is the most frequent candidate in the first line, and the names of the columns."""
    opener = gzip.open if file.name.lower().endswith(".gz") else open
    with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:
        first = lines.readline()
    delimiter = max(_DELIMITERS, key=first.count)
    return delimiter, next(csv.reader([first], delimiter=delimiter), [])


def _with_types(connection: Backend, table: ir.Table, text_columns: set[str]) -> ir.Table:
    guessed = [column for column in table.columns if column not in text_columns]
    tests = {f"{i}_{kind}": _fits(table[column], kind) for i, column in enumerate(guessed) for kind in _TYPES}
    if not tests:
        return table
    fits = connection.to_pyarrow(table.agg(**{name: test.all() for name, test in tests.items()})).to_pylist()[0]
    types = {column: next((kind for kind in _TYPES if fits[f"{i}_{kind}"]), None) for i, column in enumerate(guessed)}
    return table.mutate(**{column: table[column].cast(kind) for column, kind in types.items() if kind})


def _fits(values: ir.StringColumn, kind: str) -> ir.BooleanValue:
    """Null where a value is missing, so that it does not count. 007 is text: as a number it would lose its zeros."""
    if kind == "boolean":
        return values.lower().isin(["true", "false"])
    leading_zero = values.re_search("^[+-]?0[0-9]")
    fits = values.try_cast(kind).notnull() & ~leading_zero
    if kind == "int64":
        fits = fits & values.re_search("^[+-]?[0-9]+$")  # a cast alone would round 1.5
    return ibis.ifelse(values.isnull(), ibis.null("boolean"), fits)
