"""Writing the Parquet files and the shortlist.toml that a command makes of someone's data set."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_table(table: pa.Table, path: Path) -> None:
    """The file is whole or as it was before."""
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial)
    os.replace(partial, path)


def write_template(config: Path, template: bytes) -> bool:
    """Write `template` to `config`, unless someone has edited what was written there before. Returns whether."""
    original = config.with_name(f".{config.name}.original")
    if config.exists() and not (original.exists() and config.read_bytes() == original.read_bytes()):
        return False
    config.write_bytes(template)
    original.write_bytes(template)
    return True
