"""The item table of a bundle: what serving reads of the prepared items, in the smallest types that hold it."""

from pathlib import Path

import numpy as np
import orjson

from models.contract.items import ItemTable
from models.contract.schema import Schema
from models.contract.tables import smallest_int


def write_item_table(source: Path, target: Path, schema: Schema) -> None:
    """From the folder `items` of a prepared dataset to that of a bundle. The values are the same ones."""
    table = ItemTable.load(source, schema.returned, schema.filterable)
    target.mkdir(parents=True)
    np.save(target / "hashes.npy", table.hashes)
    table.ids.compact().save(target, "ids")
    for kind, columns in (("fields", table.fields), ("filters", table.filters)):
        if columns:  # a bundle holds no empty folder
            (target / kind).mkdir()
    for name, column in table.fields.items():
        column.compact().save(target / "fields", name)
    for name, (codes, values) in table.filters.items():
        np.save(target / "filters" / f"{name}.npy", codes.astype(smallest_int(len(values), signed=True)))
        (target / "filters" / f"{name}.json").write_bytes(orjson.dumps(values))
