"""Models of finished stages: for serving, for evaluation, and as candidate generation saw them at a moment."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from models import checkpoint
from models.data.dataset import Dataset
from models.offline import Retrieval
from models.options import TrainSection
from models.ranking.pieces import Ranker
from models.ranking.train import build_ranker
from models.retrieval.model import RetrievalModel
from models.retrieval.snapshot import snapshot
from models.retrieval.train import build_model
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, StageFiles


@dataclass(frozen=True, slots=True)
class Trained:
    """Models for serving or evaluation: trained on everything before until_ms.

    ranker: None where the retrieval order is served.  key: of the data and the settings.  figures: what validation
    said of the ranker.  compression: what was done to make "retrieval" and "ranking" smaller, a sentence a step; empty
    for models as they were trained.
    """

    retrieval: RetrievalModel
    ranker: Ranker | None
    until_ms: int
    key: str
    figures: dict[str, float]
    options: TrainSection
    compression: dict[str, list[str]] = field(default_factory=dict)


def load_trained(dataset: Dataset, options: TrainSection, folder: Path, *, for_test: bool) -> Trained:
    """The models for evaluation on the test window, or for serving. Raises CheckpointError when a stage is missing."""
    files = StageFiles(dataset, options, folder)
    until = dataset.splits.test_start_ms if for_test else dataset.splits.end_ms
    retrieval = build_model(dataset, options, until)
    files.restore(retrieval, RETRIEVAL_TEST if for_test else RETRIEVAL_LAST)
    if options.ranker.model == "none":
        return Trained(retrieval.eval(), None, until, files.key, {}, options, files.compression)
    ranker = build_ranker(dataset, options)
    figures = files.restore(ranker, RANKER)
    return Trained(retrieval.eval(), ranker.eval(), until, files.key, figures, options, files.compression)


def load_first_retrieval(dataset: Dataset, options: TrainSection, folder: Path) -> RetrievalModel:
    """The retrieval model as its own training left it, before any later data. Raises CheckpointError."""
    files = StageFiles(dataset, options, folder)
    model = build_model(dataset, options, files.ranker_start_ms)
    files.restore(model, RETRIEVAL)
    return model.eval()


def first_retrieval_at(
    dataset: Dataset, options: TrainSection, folder: Path, moments_ms: list[int]
) -> Iterator[Retrieval]:
    """That model as candidate generation saw it at each moment, its tables as of then. Raises CheckpointError."""
    trained = checkpoint.weights(load_first_retrieval(dataset, options, folder))
    for moment in moments_ms:
        model = build_model(dataset, options, moment)
        checkpoint.set_weights(model, trained)
        yield snapshot(dataset, model, moment)
