"""A ranker trained on a labelled table, kept like the other stages of training."""

from hashlib import sha256
from pathlib import Path

import torch

from models import checkpoint
from models.data.labelled import LabelledTable
from models.distributed import is_first, wait
from models.hardware import CPU, Hardware
from models.options import TrainSection
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.labelled import STAGE, check_rows, fit_labelled
from models.ranking.pieces import Ranker
from models.run_log import RunLog
from models.stage_files import MODEL_VERSION

FILE = "labelled.npz"


def train_labelled(
    table: LabelledTable, options: TrainSection, folder: Path, log: RunLog, hardware: Hardware = CPU
) -> None:
    """Train unless that is done. Raises ValueError for rows or options that cannot be trained with, or measured."""
    check_table(table, options)
    key = labelled_key(table, options)
    try:
        _, header = checkpoint.load(folder / FILE)
    except checkpoint.CheckpointError:
        header = {}
    if header.get("key") == key:
        log.start(STAGE, 1, 1)
        log.finish(STAGE, "done before")
        return
    model, figure = fit_labelled(
        _inputs(table), table.train, table.valid, options.ranker, options.seed, log, _unfinished(folder), key, hardware
    )
    if is_first():
        checkpoint.save(folder / FILE, checkpoint.weights(model), {"key": key, "figures": {"validation": figure}})
        _unfinished(folder).unlink(missing_ok=True)
    wait()


def check_table(table: LabelledTable, options: TrainSection) -> None:
    """Raises ValueError for rows or options that cannot be trained with, or measured: before anything is learned."""
    inputs = _inputs(table)
    for part, rows in (("training", table.train), ("validation", table.valid), ("test", table.test)):
        if rows is not None:
            check_rows(part, rows, inputs, options.ranker)
    build(inputs, options.ranker)


def load_labelled(table: LabelledTable, options: TrainSection, folder: Path) -> Ranker:
    """Raises CheckpointError when there is none for this table and these options."""
    weights, header = checkpoint.load(folder / FILE, {"key": str})
    if header["key"] != labelled_key(table, options):
        raise checkpoint.CheckpointError(
            f"{folder / FILE}: was trained on other data or with other settings; run `shortlist train` again"
        )
    torch.manual_seed(options.seed)
    model = build(_inputs(table), options.ranker)
    with checkpoint.named(folder / FILE):
        checkpoint.set_weights(model, weights)
    return model.eval()


def labelled_key(table: LabelledTable, options: TrainSection) -> str:
    """Names the table and the settings that the ranker was trained with."""
    return sha256(f"{MODEL_VERSION}:{table.fingerprint}:{options.model_dump_json()}".encode()).hexdigest()


def _inputs(table: LabelledTable) -> RankerInputs:
    return RankerInputs(table.user_sizes, 0, table.item_sizes, 0, len(table.cross))


def _unfinished(folder: Path) -> Path:
    return folder / "labelled.checkpoint.npz"
