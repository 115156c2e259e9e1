"""The compression report of trained models: every variant on the same requests of the test window."""

from collections.abc import Callable, Mapping

from export.compression.ranker_graphs import CALIBRATION, RankerGraphs, compressed_variants, teacher_variants
from export.compression.rankers import ranker_rows
from export.compression.report import CompressionReport
from export.compression.requests import Asked, ask
from export.compression.towers import Tower, compressed_towers, teacher_towers, tower_rows
from models.data.dataset import Dataset
from models.retrieval.snapshot import snapshot
from models.targets import Window
from models.trained import Trained

OnStep = Callable[[str], None]
TEACHERS = 6  # variants of the ranker, at least, and of the tower


def requests(dataset: Dataset, trained: Trained) -> tuple[Asked, Asked]:
    """Users of the test window, and those of the validation window that int8 is calibrated with, as the trained
    retrieval model finds candidates for them. Raises ValueError where a window has nobody."""
    retrieval = snapshot(dataset, trained.retrieval, trained.until_ms)
    test = ask(dataset, retrieval, Window.test(dataset))
    return test, ask(dataset, retrieval, Window.validation(dataset), CALIBRATION)


def compression_report(
    dataset: Dataset,
    trained: Trained,
    compressed: Mapping[str, Trained],
    asked: Asked,
    calibration: Asked,
    on_step: OnStep = lambda step: None,
) -> CompressionReport:
    """The rankers and the towers; whole bundles are measured apart.

    trained: the teacher, up to the test window; without a ranker only the towers are compared.  compressed: by name.
    """
    seed = trained.options.seed
    rankers = _rankers(dataset, trained, compressed, calibration, on_step)
    towers = _towers(trained, compressed, calibration, on_step)
    return CompressionReport(
        training_key=trained.key,
        fingerprint=dataset.fingerprint,
        seed=seed,
        models={name: one.key for name, one in compressed.items()},
        num_users={mode: len(targets) for mode, targets in asked.targets.items()},
        rankers=ranker_rows(rankers, asked, calibration, seed, on_step) if rankers else [],
        towers=tower_rows(towers, asked, calibration, seed, on_step),
        bundles=[],
        left_out=[*_left_out(trained, compressed), *_modes_left_out(asked)],
    )


def num_steps(trained: Trained, compressed: Mapping[str, Trained]) -> int:
    """How often `compression_report` will call on_step, or one less."""
    rankers, towers = _compressed_rankers(compressed), _compressed_towers(compressed)
    of_ranker = 0 if trained.ranker is None else 1 + TEACHERS + 3 * len(rankers)
    return of_ranker + 1 + TEACHERS + 3 * len(towers)


def _compressed_rankers(compressed: Mapping[str, Trained]) -> dict[str, Trained]:
    """Those that rank the candidates of the teacher's tower."""
    return {
        name: one for name, one in compressed.items() if one.compression["ranking"] and not one.compression["retrieval"]
    }


def _compressed_towers(compressed: Mapping[str, Trained]) -> dict[str, Trained]:
    return {name: one for name, one in compressed.items() if one.compression["retrieval"]}


def _rankers(
    dataset: Dataset, trained: Trained, compressed: Mapping[str, Trained], calibration: Asked, on_step: OnStep
) -> list[RankerGraphs]:
    if trained.ranker is None:
        return []
    on_step("ranker")
    found = teacher_variants(dataset, trained, calibration)
    for name, one in _compressed_rankers(compressed).items():
        on_step(name)
        found += compressed_variants(name, dataset, one, calibration)
    return found


def _towers(trained: Trained, compressed: Mapping[str, Trained], calibration: Asked, on_step: OnStep) -> list[Tower]:
    on_step("user tower")
    found = teacher_towers(trained, calibration)
    for name, one in _compressed_towers(compressed).items():
        on_step(name)
        found += compressed_towers(name, one, calibration)
    return found


def _left_out(trained: Trained, compressed: Mapping[str, Trained]) -> list[str]:
    notes = [
        f"{name}: only its tower is compared; its ranker learned on the candidates of that tower, not on these"
        for name, one in _compressed_towers(compressed).items()
        if one.compression["ranking"]
    ]
    return notes if trained.ranker is not None else [*notes, "no ranker was trained: only towers are compared"]


def _modes_left_out(asked: Asked) -> list[str]:
    return [] if "new" in asked.targets else ["nobody took a new item in the test window: mode new is left out"]
