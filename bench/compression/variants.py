"""The five ways of making a ranker smaller that are compared with each other."""

from collections.abc import Sequence
from pathlib import Path

from models.compress.options import CompressSection
from models.compress.run import OPTIONS, compress
from models.compress.variants import OF_RANKER
from models.data.dataset import Dataset
from models.options import TrainSection
from models.run_log import RunLog, Silent


def variants(
    dataset: Dataset,
    folder: Path,
    section: CompressSection | None = None,
    log: RunLog | None = None,
    names: Sequence[str] = OF_RANKER,
) -> dict[str, Path]:
    """The finished folders by name, made where they are not there yet.

    folder: of the trained models, `<data dir>/train`.  Raises ValueError for models that cannot be made smaller,
    CheckpointError where nothing was trained.
    """
    options = TrainSection.model_validate_json((folder / OPTIONS).read_bytes())
    made = compress(dataset, options, folder, section or CompressSection(), log or Silent(), names)
    return {path.name: path for path in made}
