"""Where a compressed model lies: an ordinary training folder beside the trained models, with its options and record."""

import shutil
from pathlib import Path

from models.checkpoint import CheckpointError
from models.compress.record import Record, read_record, write_record
from models.options import TrainSection

FOLDER, OPTIONS = "compressed", "options.json"


def compressed_folder(train_folder: Path, name: str) -> Path:
    return train_folder / FOLDER / name


def begin(folder: Path, options: TrainSection, record: Record) -> None:
    """A folder for these very models; what others left there goes."""
    try:
        if read_record(folder) == record:
            return
    except CheckpointError:
        pass  # damaged: it is made again
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / OPTIONS).write_text(options.model_dump_json(indent=2), "utf-8")
    write_record(folder, record)
