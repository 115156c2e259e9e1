"""What lies in the folder of the naive service's graphs; bench/kit/naive_graphs.py writes it."""

from pathlib import Path
from typing import NamedTuple

import orjson

FOLDER = Path("bench", "naive")  # of a data folder
TOWER, RANKER, ITEM_VECTORS = "user_tower.onnx", "ranker.onnx", "item_vectors.npy"
ITEM_CATEGORICAL, ITEM_NUMERIC = "item_categorical.npy", "item_numeric.npy"
INFO = "info.json"


class NaiveInfo(NamedTuple):
    """bundle: the active one when the graphs were made; its tables go with them.  *_history_length: positions that each
    graph takes.  num_cross: cross features that the ranker takes, all or none."""

    bundle: str
    tower_history_length: int
    ranker_history_length: int
    num_cross: int


def read_info(folder: Path) -> NaiveInfo:
    return NaiveInfo(**orjson.loads((folder / INFO).read_bytes()))
