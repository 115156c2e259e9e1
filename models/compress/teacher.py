"""Whom a student learns from: the trained models themselves, or those of another data folder."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.compress.retrieval import sasrec_of
from models.contract.schema import Schema
from models.data.dataset import Dataset, Splits
from models.options import TrainSection
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.ranking.train import build_ranker
from models.retrieval.sasrec import SasRec
from models.retrieval.sasrec_training import build
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, StageFiles

# Of [train.ranker], what the candidate lists are made by. A student learns from those of the trained models: the
# teacher's might begin before the retrieval model has seen everything that it learns from.
OF_LISTS = ("windows", "negatives", "impressions", "propensity", "max_weight", "history_length")


@dataclass(frozen=True, slots=True)
class Teacher:
    """dataset, options, folder: that it was trained with, and its stages."""

    dataset: Dataset
    options: TrainSection
    folder: Path

    @property
    def files(self) -> list[Path]:
        stages = [RETRIEVAL, RETRIEVAL_TEST, RETRIEVAL_LAST, *([RANKER] if self.options.ranker.model != "none" else [])]
        return [self.folder / f"{stage}.npz" for stage in stages]

    def check(self, dataset: Dataset, options: TrainSection) -> None:
        """That it can be asked about the student's rows, and has learned from nothing that the student may not see.
        options: of the trained models that the student stands beside. Raises ValueError that names what differs, and
        CheckpointError where it is not trained."""
        self.check_trained()
        moved = differing_splits(self.dataset.splits, dataset.splits)
        if moved:
            raise ValueError(
                f"{self.folder}: the teacher may have learned from what the student is tested on, its windows are "
                f"others: {', '.join(moved)}; prepare the data of both with the same [split]"
            )
        other = differing_features(self.dataset.schema, dataset.schema)
        if other:
            raise ValueError(
                f"{self.folder}: the teacher has other features than the student: {', '.join(other)}; prepare the data "
                "of both from the same files with the same [items], [users] and [features]"
            )
        if not np.array_equal(self.dataset.item_hashes, dataset.item_hashes):
            raise ValueError(f"{self.folder}: the teacher has another catalogue than the student; prepare both alike")
        if self.dataset.fingerprint != dataset.fingerprint:
            raise ValueError(
                f"{self.folder}: the teacher has other data than the student (fingerprint "
                f"{self.dataset.fingerprint[:12]}, not {dataset.fingerprint[:12]}): users, interactions or what is "
                "returned of an item differ; prepare the data of both from the same files with the same settings"
            )
        self.check_ranker(options.ranker)

    def check_trained(self) -> None:
        """Raises CheckpointError where a stage is missing, or of other data or settings."""
        stages = self._stages()
        for path in self.files:
            stages.result(path.stem)

    def check_ranker(self, student: RankerOptions) -> None:
        """That its ranker can be asked about the candidate lists of the trained one, whose options are `student`.
        Raises ValueError."""
        teacher = self.options.ranker
        if (teacher.model == "none") != (student.model == "none"):
            raise ValueError(f"{self.folder}: the teacher's [train.ranker] model is {teacher.model!r}")
        if teacher.learn_from != student.learn_from:
            raise ValueError(
                f"{self.folder}: the teacher's [train.ranker] learn_from is {teacher.learn_from!r}, the student's "
                f"{student.learn_from!r}"
            )
        if teacher.history_read not in (0, student.history_read):
            raise ValueError(
                f"{self.folder}: the teacher's [train.ranker] history_length is {teacher.history_read}, and the "
                f"candidate lists of the trained models have {student.history_read} interactions of a history"
            )
        if teacher.loss == "squared" and student.propensity != "none":
            raise ValueError(
                f'{self.folder}: the teacher\'s [train.ranker] loss is "squared", and the propensity = '
                f"{student.propensity!r} of the trained models weighs clicks"
            )

    def check_retrieval(self, ranker_start_ms: int) -> None:
        """That its retrieval model, too, saw nothing of the windows that the student's ranker learns from; they start
        at ranker_start_ms. Raises ValueError."""
        if self._stages().ranker_start_ms > ranker_start_ms:
            raise ValueError(
                f"{self.folder}: the teacher's retrieval model learned from windows that the student's ranker learns "
                f"from: its [train.ranker] windows is {self.options.ranker.windows}; train it with the windows of the "
                "student, or let it teach the ranker alone (--only distilled)"
            )

    def ranker_options(self, trained: RankerOptions) -> RankerOptions:
        """Its model and how that learns, on the candidate lists of the trained models.  trained: their options."""
        return self.options.ranker.model_copy(update={name: getattr(trained, name) for name in OF_LISTS})

    def ranker(self) -> Ranker:
        model = build_ranker(self.dataset, self.options)
        self._stages().restore(model, RANKER)
        return model.eval()

    def sasrec(self, stage: str) -> SasRec:
        """As it stood after that stage. Raises ValueError for another retrieval model."""
        stages, splits = self._stages(), self.dataset.splits
        moments = {RETRIEVAL_TEST: splits.test_start_ms, RETRIEVAL_LAST: splits.end_ms}
        model = build(self.dataset, sasrec_of(self.options), moments.get(stage, stages.ranker_start_ms), 0)
        stages.restore(model, stage)
        return model.eval()

    def _stages(self) -> StageFiles:
        return StageFiles(self.dataset, self.options, self.folder)


def differing_features(teacher: Schema, student: Schema) -> list[str]:
    """Names of the features that only one of the two has, or that are encoded in another way."""
    groups = ("user_features", "context_features", "item_features")
    found: list[str] = []
    for group in groups:
        one, other = ({feature.name: feature for feature in getattr(schema, group)} for schema in (teacher, student))
        found += [name for name in one | other if one.get(name) != other.get(name)]
    found += [f"affinity of {name}" for name in sorted({*teacher.affinity} ^ {*student.affinity})]
    if not found and any(getattr(teacher, group) != getattr(student, group) for group in groups):
        return ["their order"]
    return found


def differing_splits(teacher: Splits, student: Splits) -> list[str]:
    """What is another in the two, with its values."""
    one, other = asdict(teacher), asdict(student)
    return [f"{name} is {one[name]}, not {other[name]}" for name in one if one[name] != other[name]]
