"""The trained models as a team exports them in a day: a float32 user tower, and the whole ranker as one float32 graph
over rows of user and item, for which the user's features are repeated in every row. bench/naive.py serves them.

They give the scores that the bundle of these models had before it was quantized.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import orjson
import torch
from torch import Tensor, nn

from bench.kit.naive_files import (
    FOLDER,
    INFO,
    ITEM_CATEGORICAL,
    ITEM_NUMERIC,
    ITEM_VECTORS,
    RANKER,
    TOWER,
    NaiveInfo,
    read_info,
)
from export.graphs import FEATURE_TOWER_IO, ROWS, USER_TOWER_IO, Feed, GraphIO, to_onnx
from models.compress.folder import OPTIONS
from models.contract.user_inputs import user_inputs
from models.contract.verify import verify_bundle
from models.contract.versions import bundle_path, read_active
from models.data.dataset import Dataset, load_dataset
from models.offline import UserMoment, moments
from models.options import TrainSection
from models.ranking.inputs import item_codes
from models.ranking.pieces import Ranker
from models.ranking.samples import item_numbers
from models.retrieval.model import RetrievalModel
from models.trained import Trained, load_trained


class TiledRanker(nn.Module):
    """(item_categorical [n, C], item_numeric [n, F], cross [n, c], each of the user's inputs [n, ...]) -> score [n]."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(
        self,
        item_categorical: Tensor,
        item_numeric: Tensor,
        cross: Tensor,
        user_categorical: Tensor,
        user_numeric: Tensor,
        *history: Tensor,
    ) -> Tensor:
        own_row = torch.arange(cross.shape[0])
        score: Tensor = self.ranker(
            user_categorical, user_numeric, item_categorical, item_numeric, cross, own_row, *history
        )
        return score


def naive_folder(data_dir: Path) -> Path:
    """Make the graphs of this data folder's models, unless they are there for its active bundle; returns their folder.

    Raises ValueError where the active bundle has no ranker or is of other models, CheckpointError, BundleError. They
    are written beside and renamed: there is no half of them.
    """
    folder, bundles = data_dir / FOLDER, data_dir / "bundles"
    version = read_active(bundles)
    if version is None:
        raise ValueError(f"there is no active bundle in {bundles}: run `shortlist export` first")
    if (folder / INFO).exists() and read_info(folder).bundle == version:
        return folder
    dataset = load_dataset(data_dir / "prepared")
    trained = _load_trained(dataset, data_dir / "train")
    if verify_bundle(bundle_path(bundles, version)).training_key != trained.key:
        raise ValueError(f"the active bundle {version} is of other models than {data_dir / 'train'}: export again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".naive-", dir=folder.parent))
    try:
        _write(unfinished, dataset, trained, version)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def tower_onnx(dataset: Dataset, model: RetrievalModel, whos: list[UserMoment]) -> bytes:
    """whos: at least 2 users to trace with."""
    names = FEATURE_TOWER_IO if model.user_features else USER_TOWER_IO
    return to_onnx(model, names, _user_feed(dataset, tuple(names.inputs), model.history_length, whos))


def tiled_onnx(dataset: Dataset, ranker: Ranker, whos: list[UserMoment], items: Feed) -> bytes:
    """whos: at least 2 users to trace with, each for a row of `items`, which has the inputs that are not the user's."""
    users = _user_feed(dataset, ranker.user_inputs, ranker.user_module.history_length, whos)
    names = GraphIO(dict.fromkeys((*items, *ranker.user_inputs), ROWS), "score")
    return to_onnx(TiledRanker(ranker), names, {**items, **users})


def _user_feed(dataset: Dataset, names: tuple[str, ...], length: int, whos: list[UserMoment]) -> Feed:
    return user_inputs(names, length, [who.history for who in whos], [who.features(dataset.schema) for who in whos])


def _load_trained(dataset: Dataset, folder: Path) -> Trained:
    options = TrainSection.model_validate_json((folder / OPTIONS).read_bytes())
    return load_trained(dataset, options, folder, for_test=False)


def _write(folder: Path, dataset: Dataset, trained: Trained, version: str) -> None:
    ranker = trained.ranker
    if ranker is None:
        raise ValueError(f"the models of {dataset.folder.parent} have no ranker, and the naive service is to have one")
    num_cross = ranker.head_module.cross_weight.shape[0]
    categorical = item_codes(dataset).numpy()
    past = dataset.interactions.before(trained.until_ms)
    numeric = item_numbers(dataset, past, trained.until_ms)
    items: Feed = {
        "item_categorical": categorical[:2],
        "item_numeric": numeric[:2],
        "cross": np.zeros((2, num_cross), np.float32),
    }
    whos = moments(dataset, [0, dataset.num_users - 1], trained.until_ms)
    (folder / TOWER).write_bytes(tower_onnx(dataset, trained.retrieval, whos))
    (folder / RANKER).write_bytes(tiled_onnx(dataset, ranker, whos, items))
    with torch.inference_mode():
        np.save(folder / ITEM_VECTORS, trained.retrieval.item_vectors().numpy())
    np.save(folder / ITEM_CATEGORICAL, categorical)
    np.save(folder / ITEM_NUMERIC, numeric)
    info = NaiveInfo(version, trained.retrieval.history_length, ranker.user_module.history_length, num_cross)
    (folder / INFO).write_bytes(orjson.dumps(info._asdict()))
