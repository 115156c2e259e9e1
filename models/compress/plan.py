"""What a variant is to be: the options of its smaller shape, and in words what is done to get there."""

from dataclasses import dataclass

from models.compress.inherit import inherits
from models.compress.options import CompressSection
from models.compress.retrieval import sasrec_of, without_units
from models.compress.size import parameters, student_ranker, student_sasrec
from models.compress.teacher import Teacher
from models.compress.units import sizes_after
from models.compress.variants import WITHOUT_UNITS, Variant
from models.data.dataset import Dataset
from models.options import TrainSection
from models.ranking.build import build
from models.ranking.options import RankerOptions
from models.ranking.train import ranker_inputs
from models.retrieval.sasrec_training import build as build_sasrec
from models.windows import ranker_start_ms


@dataclass(frozen=True, slots=True)
class Plan:
    """trained: options of the trained models.  section: `[compress]`.  teacher: of the students."""

    dataset: Dataset
    trained: TrainSection
    section: CompressSection
    teacher: Teacher

    def options(self, variant: Variant) -> TrainSection:
        """Raises ValueError for a shape that is not smaller."""
        options = self.trained
        if variant.retrieval != "kept":
            options = self._smaller_retrieval(variant)
        if variant.ranking in ("kept", "magnitude"):
            return options
        ranker = options.ranker
        if variant.ranking != "pruned":
            ranker = self._student(variant)
        if variant.ranking in ("pruned", "distilled-pruned"):
            if ranker.model in WITHOUT_UNITS:
                raise ValueError(
                    f"--only distilled-pruned: [compress.student] model = {ranker.model!r} has no hidden units for "
                    "prune_units; leave this variant out, or choose another model"
                )
            ranker = ranker.model_copy(update={"hidden": sizes_after(ranker.hidden, self.section.prune_units)})
        return options.model_copy(update={"ranker": ranker})

    def told_of_retrieval(self, variant: Variant) -> list[str]:
        """What is done to the retrieval model, a sentence a step."""
        if variant.retrieval == "kept":
            return []
        before, after = sasrec_of(self.trained), sasrec_of(self.options(variant))
        if variant.retrieval == "pruned":
            units = before.feed_units or 2 * before.dim
            return [f"structured pruning: feed-forward units {units} to {after.feed_units}"]
        if variant.retrieval == "magnitude":
            return [self._told_of_zeros()]
        before, start_ms = sasrec_of(self.teacher.options), ranker_start_ms(self.dataset, self.trained)
        counts = [parameters(build_sasrec(self.dataset, shape, start_ms, 0)) for shape in (before, after)]
        return [
            f"{_told_of_student(variant.retrieval)}: {counts[0]:,} parameters to {counts[1]:,}, dim {before.dim} to "
            f"{after.dim}, layers {before.layers} to {after.layers}"
        ]

    def told_of_ranking(self, variant: Variant) -> list[str]:
        """What is done to the ranker, a sentence a step."""
        before, after = self.trained.ranker, self.options(variant).ranker
        told = []
        if variant.ranking in ("distilled", "distilled-pruned", "small"):
            teacher, student = self.teacher.options.ranker, self._student(variant)
            begun = self._inherits(variant, student)
            if begun:  # pruned or not, it is one student from the start
                student = after
            kind = "" if student.model == teacher.model else f"{student.model}, "
            sizes = f"{self._size(teacher):,} parameters to {self._size(student):,}"
            shape = f"{kind}dim {student.dim}, hidden {student.hidden}"
            start = ", begun with the teacher's weights" if begun else ""
            told, before = [f"{_told_of_student(variant.ranking)}: {sizes}, {shape}{start}"], student
        if before.hidden != after.hidden and variant.ranking in ("pruned", "distilled-pruned"):
            told.append(f"structured pruning: hidden units {before.hidden} to {after.hidden}")
        if variant.ranking == "magnitude":
            told.append(self._told_of_zeros())
        return told

    def _student(self, variant: Variant) -> RankerOptions:
        """One that begins with the teacher's weights keeps all of them while it learns: it has no dropout."""
        teacher = self.teacher.ranker_options(self.trained.ranker)
        student = student_ranker(ranker_inputs(self.dataset), teacher, self.section.student)
        if not self._inherits(variant, student):
            return student
        return student.model_copy(update={"dropout": 0.0, "embedding_dropout": 0.0})

    def _inherits(self, variant: Variant, student: RankerOptions) -> bool:
        return variant.ranking != "small" and inherits(student, self.teacher.options.ranker)

    def _smaller_retrieval(self, variant: Variant) -> TrainSection:
        sasrec = sasrec_of(self.trained)
        if variant.retrieval == "distilled":
            self.teacher.check_retrieval(ranker_start_ms(self.dataset, self.trained))
        if variant.retrieval == "pruned":
            sasrec = without_units(sasrec, self.section.prune_units)
        elif variant.retrieval != "magnitude":
            sasrec = student_sasrec(sasrec_of(self.teacher.options), self.section.retrieval_student)
        return self.trained.model_copy(update={"retrieval": sasrec})

    def _told_of_zeros(self) -> str:
        return f"magnitude pruning: {self.section.prune_weights:.0%} of the layers' weights are zero"

    def _size(self, options: RankerOptions) -> int:
        return parameters(build(ranker_inputs(self.dataset), options))


def _told_of_student(way: str) -> str:
    return "trained small, without a teacher" if way == "small" else "distilled"
