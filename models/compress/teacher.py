"""Whom a student learns from: the trained models themselves, or those of another data folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.compress.retrieval import sasrec_of
from models.contract.schema import Schema
from models.data.dataset import Dataset
from models.options import TrainSection
from models.ranking.pieces import Ranker
from models.ranking.train import build_ranker
from models.retrieval.sasrec import SasRec
from models.retrieval.sasrec_training import build
from models.train import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, Stages


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
        """That it can be asked about the student's rows. Raises ValueError that names what it reads and they have
        not, and CheckpointError where it is not trained."""
        for path in self.files:
            self._stages().result(path.stem)
        other = differing_features(self.dataset.schema, dataset.schema)
        if other:
            raise ValueError(
                f"{self.folder}: the teacher has other features than the student: {', '.join(other)}; prepare the data "
                "of both from the same files with the same [items], [users] and [features]"
            )
        if not np.array_equal(self.dataset.item_hashes, dataset.item_hashes):
            raise ValueError(f"{self.folder}: the teacher has another catalogue than the student; prepare both alike")
        teacher, student = self.options.ranker, options.ranker
        if (teacher.model == "none") != (student.model == "none"):
            raise ValueError(f"{self.folder}: the teacher's [train.ranker] model is {teacher.model!r}")
        if teacher.history_read > student.history_read or teacher.learn_from != student.learn_from:
            raise ValueError(
                f"{self.folder}: the teacher has other features than the student: its ranker reads "
                f"{teacher.history_read} interactions of a history and learns from {teacher.learn_from}, the student's "
                f"{student.history_read} and {student.learn_from}"
            )

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

    def _stages(self) -> Stages:
        return Stages(self.dataset, self.options, self.folder, None)


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
