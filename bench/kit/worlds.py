"""Synthetic catalogues as real data folders: prepared, with models, exported and active, so that `shortlist load` and
`shortlist serve` run on them as on any other. What is measured on them is the product.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.kit.planted import plant_models
from bench.kit.shop import DAY_MS, make_catalogue, write_shop
from export.run import STEPS as EXPORT_STEPS
from export.run import build_content
from export.write import write_bundle
from models.contract.manifest import FORMAT_VERSION as BUNDLE_VERSION
from models.contract.versions import known_active, write_active
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import STEPS as PREPARE_STEPS
from models.data.prepare import prepare_dataset
from models.data.write import PREPARE_VERSION
from models.options import TrainSection
from models.stage_files import MODEL_VERSION
from models.trained import load_trained

WORLD_VERSION = 1  # raised when the same parameters give another world
NUM_USERS = 20_000
MARKER = "world.json"
K = 20

OnStep = Callable[[str, int, int], None]  # what begins, steps done, steps in all
NUM_STEPS = 1 + len(PREPARE_STEPS) + 1 + len(EXPORT_STEPS) + 1


@dataclass(frozen=True, slots=True)
class World:
    """A data folder to measure with.

    data_dir: what SHORTLIST_DATA_DIR is set to.  user_ids: users with a history.  history_lengths: int64, of each of
    them as `shortlist load` puts it into the feature store.  contexts: values of each context feature.
    """

    name: str
    data_dir: Path
    num_items: int
    user_ids: list[str]
    history_lengths: NDArray[np.int64]
    contexts: dict[str, list[str]]


def build_world(
    folder: Path,
    num_items: int,
    *,
    seed: int = 0,
    num_users: int = NUM_USERS,
    on_step: OnStep = lambda text, done, total: None,
) -> World:
    """Make the data folder, or open the one that was made with the same parameters.

    Raises ValueError where the folder holds something else, GateError when the bundle may not be published. It is
    made beside `folder` and renamed: there is no half of one.
    """
    key = world_key(num_items, num_users, seed)
    if folder.exists() and not _is_ours(folder):
        raise ValueError(f"{folder}: holds something that is no world of this benchmark; name another folder")
    if _made_with(folder) != key:
        folder.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _make(workshop / "world", num_items, num_users, seed, key, _Steps(on_step))
            if folder.exists():
                folder.rename(workshop / "old")
            (workshop / "world").rename(folder)
        finally:
            shutil.rmtree(workshop)
    return _opened(folder)


def demo_world(data_dir: Path) -> World:
    """The world of an existing data folder. Raises DatasetError where nothing is prepared in it."""
    return _opened(data_dir)


def request_bodies(world: World, count: int, seed: int, history_length: tuple[int, int] | None = None) -> list[bytes]:
    """JSON bodies for POST /recommend: 20 items for random known users, each with a random value of every context
    feature.

    history_length: the shortest and the longest that is wanted. Raises ValueError where no user has one.
    """
    rng = np.random.default_rng(seed)
    shortest, longest = history_length or (1, np.iinfo(np.int64).max)
    chosen = np.flatnonzero((world.history_lengths >= shortest) & (world.history_lengths <= longest))
    if not len(chosen):
        raise ValueError(f"{world.name}: no user has a history of {shortest} to {longest} interactions")
    bodies = []
    for user in rng.choice(chosen, count).tolist():
        context = {name: values[int(rng.integers(len(values)))] for name, values in world.contexts.items()}
        bodies.append(orjson.dumps({"user_id": world.user_ids[user], "k": K, "context": context}))
    return bodies


def world_key(num_items: int, num_users: int, seed: int) -> str:
    """Names the parameters and the versions of all code that decides what a world is like."""
    versions = (WORLD_VERSION, MODEL_VERSION, PREPARE_VERSION, BUNDLE_VERSION, version("shortlist"))
    return sha256(repr((num_items, num_users, seed, versions)).encode()).hexdigest()


def export_world(data_dir: Path, options: TrainSection, on_step: Callable[[str], None] = lambda step: None) -> Path:
    """Export the models in this folder, gates and all, and make the bundle the active one; returns its path."""
    dataset = load_dataset(data_dir / "prepared")
    trained = load_trained(dataset, options, data_dir / "train", for_test=False)
    shift_ms = (time.time_ns() // 1_000_000 - dataset.splits.end_ms) // DAY_MS * DAY_MS  # the data end within a day
    content = build_content(
        dataset, trained, code_version=version("shortlist"), clock_shift_ms=shift_ms, on_step=on_step
    )
    on_step("bundle")
    path = write_bundle(data_dir / "bundles", content)
    write_active(data_dir / "bundles", path.name)
    return path


class _Steps:
    """Counts the steps as they begin."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step, self._done = on_step, 0

    def __call__(self, text: str) -> None:
        self._on_step(text, self._done, NUM_STEPS)
        self._done += 1


def _make(data_dir: Path, num_items: int, num_users: int, seed: int, key: str, begin: _Steps) -> None:
    begin("catalogue")
    rng = np.random.default_rng(seed)
    catalogue = make_catalogue(num_items, rng)
    config = load_config(write_shop(data_dir / "shop", catalogue, num_users, seed, rng))
    prepare_dataset(config, data_dir, lambda step: begin(f"prepare: {step}"))
    dataset = load_dataset(data_dir / "prepared")
    begin("models")
    plant_models(dataset, config.train, catalogue.vectors[item_numbers(dataset)], data_dir / "train")
    export_world(data_dir, config.train, lambda step: begin(f"export: {step}"))
    (data_dir / MARKER).write_bytes(orjson.dumps({"key": key}))


def item_numbers(dataset: Dataset) -> NDArray[np.int64]:
    """Which item of the catalogue each item index is, int64 [N]: the indices go by the ids' hashes."""
    digits = np.asarray(dataset.item_ids.data).reshape(dataset.num_items, -1)
    return digits.view(f"S{digits.shape[1]}").ravel().astype(np.int64)


def _opened(data_dir: Path) -> World:
    dataset = load_dataset(data_dir / "prepared")
    counts = np.diff(dataset.interactions.user_offsets(dataset.num_users))
    users = np.flatnonzero(counts)
    return World(
        name=data_dir.name,
        data_dir=data_dir,
        num_items=dataset.num_items,
        user_ids=[dataset.user_ids[user].decode() for user in users.tolist()],
        history_lengths=np.minimum(counts[users], dataset.schema.history_limit).astype(np.int64),
        contexts={feature.name: list(feature.vocabulary) for feature in dataset.schema.context_features},
    )


def _is_ours(folder: Path) -> bool:
    return (folder / MARKER).is_file() or not any(folder.iterdir())


def _made_with(folder: Path) -> str | None:
    """The key of the world in this folder; None without one that has an active bundle."""
    try:
        found = orjson.loads((folder / MARKER).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found.get("key") if known_active(folder / "bundles") else None
