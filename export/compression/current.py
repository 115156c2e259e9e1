"""Whether a report still tells of the models that there are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.checkpoint import CheckpointError
from models.compress.folder import FOLDER, OPTIONS
from models.compress.record import FILE
from models.data.dataset import Dataset
from models.options import TrainSection
from models.stage_files import StageFiles


def training_key_in(dataset: Dataset, folder: Path) -> str | None:
    """Key of the models in a training folder, see `Trained`; None where there are none that can be used."""
    try:
        options = TrainSection.model_validate_json((folder / OPTIONS).read_bytes())
        return StageFiles(dataset, options, folder).key
    except (FileNotFoundError, ValidationError, CheckpointError):
        return None


def compressed_keys(dataset: Dataset, train_folder: Path) -> dict[str, str | None]:
    """Keys of all compressed models by name; None for those made from other models than there now are."""
    folders = sorted(path.parent for path in (train_folder / FOLDER).glob(f"*/{FILE}"))
    return {folder.name: training_key_in(dataset, folder) for folder in folders}


def tells_of(report: Mapping[str, Any], training_key: str, keys: Mapping[str, str | None]) -> bool:
    """Whether the models of this key are in the report, and every model in it is still the one that was measured.

    report: its JSON.  keys: see `compressed_keys`.
    """
    models: dict[str, str] = report["models"]
    if training_key not in (report["training_key"], *models.values()):
        return False
    return all(keys.get(name) == key for name, key in models.items())
