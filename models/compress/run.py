"""Trained models made smaller. What comes out is an ordinary training folder, `<train>/compressed/<name>/`, with
options that describe the smaller shape: it is loaded, evaluated and exported like any other."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.checkpoint import CheckpointError
from models.compress.options import CompressSection
from models.compress.ranker import RankerWork, Smaller, teachings
from models.compress.record import Record, hashes, read_record, write_record
from models.compress.retrieval import SasRecWork, sasrec_of, without_units
from models.compress.size import parameters, student_ranker, student_sasrec
from models.compress.soft import Soft, Taught
from models.compress.teacher import Teacher
from models.compress.units import sizes_after
from models.compress.variants import VARIANTS, WITHOUT_UNITS, Variant, chosen
from models.data.dataset import Dataset
from models.fitting import Fit
from models.hardware import CPU, Hardware
from models.options import TrainSection
from models.ranking.build import build
from models.ranking.options import RankerOptions
from models.ranking.train import RankerRun, ranker_inputs
from models.retrieval.model import RetrievalModel
from models.retrieval.sasrec_training import build as build_sasrec
from models.run_log import RunLog
from models.train import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, Learn, RankerLists, Stages

FOLDER, OPTIONS = "compressed", "options.json"


def compressed_folder(train_folder: Path, name: str) -> Path:
    return train_folder / FOLDER / name


def compress(
    dataset: Dataset,
    options: TrainSection,
    folder: Path,
    section: CompressSection,
    log: RunLog,
    names: Sequence[str] = (),
    teacher: Teacher | None = None,
    hardware: Hardware = CPU,
) -> list[Path]:
    """The finished folders of the variants; what was finished before is left as it is.

    options, folder: of the trained models.  names: of variants, see `chosen`.  teacher: None for the trained models
    themselves.  Raises ValueError for what cannot be done, CheckpointError where nothing was trained; both before any
    work is done.
    """
    work = _Compression(dataset, options, folder, section, log, teacher, hardware)
    wanted = chosen(names, options)
    for name in wanted:
        work.smaller_options(VARIANTS[name])
    return [work.make(name) for name in wanted]


class _Compression:
    def __init__(
        self,
        dataset: Dataset,
        options: TrainSection,
        folder: Path,
        section: CompressSection,
        log: RunLog,
        teacher: Teacher | None,
        hardware: Hardware,
    ) -> None:
        self._dataset, self._options, self._section, self._log = dataset, options, section, log
        self._hardware = hardware
        self._base = Stages(dataset, options, folder, log, hardware)
        self._files = [folder / f"{stage}.npz" for stage in (RETRIEVAL, RETRIEVAL_TEST, RETRIEVAL_LAST)]
        self._files += [] if options.ranker.model == "none" else [folder / f"{RANKER}.npz"]
        for path in self._files:
            self._base.result(path.stem)
        self._teacher = teacher or Teacher(dataset, options, folder)
        if teacher is not None:
            teacher.check(dataset, options)
            self._files += teacher.files
        self._lists: dict[str, RankerLists] = {}
        self._taught: dict[str, Taught] = {}

    def smaller_options(self, variant: Variant) -> TrainSection:
        """Raises ValueError for a shape that is not smaller."""
        options, section = self._options, self._section
        if variant.retrieval != "kept":
            options = self._smaller_retrieval(variant)
        if variant.ranking in ("kept", "magnitude"):
            return options
        ranker = options.ranker
        if variant.ranking != "pruned":
            ranker = self._student()
        if variant.ranking in ("pruned", "distilled-pruned"):
            if ranker.model in WITHOUT_UNITS:
                raise ValueError(
                    f"--only distilled-pruned: [compress.student] model = {ranker.model!r} has no hidden units for "
                    "prune_units; leave this variant out, or choose another model"
                )
            ranker = ranker.model_copy(update={"hidden": sizes_after(ranker.hidden, section.prune_units)})
        return options.model_copy(update={"ranker": ranker})

    def _student(self) -> RankerOptions:
        teacher = self._teacher.ranker_options(self._options.ranker)
        return student_ranker(ranker_inputs(self._dataset), teacher, self._section.student)

    def _smaller_retrieval(self, variant: Variant) -> TrainSection:
        sasrec = sasrec_of(self._options)
        if variant.retrieval == "distilled":
            self._teacher.check_retrieval(self._base.ranker_start_ms)
        if variant.retrieval == "pruned":
            sasrec = without_units(sasrec, self._section.prune_units)
        elif variant.retrieval != "magnitude":
            sasrec = student_sasrec(sasrec_of(self._teacher.options), self._section.retrieval_student)
        return self._options.model_copy(update={"retrieval": sasrec})

    def make(self, name: str) -> Path:
        variant, folder = VARIANTS[name], compressed_folder(self._base.folder, name)
        options = self.smaller_options(variant)
        _begin(folder, options, self._record(name, folder, variant, options))
        stages = Stages(self._dataset, options, folder, Prefixed(self._log, name), self._hardware)
        self._retrieval(variant, stages)
        if options.ranker.model != "none":
            self._ranking(variant, stages)
        return folder

    def _record(self, name: str, folder: Path, variant: Variant, options: TrainSection) -> Record:
        return Record(
            name=name,
            retrieval=self._told_of_retrieval(variant, options),
            ranking=self._told_of_ranking(variant, options),
            settings=self._section.model_dump_json(),
            teachers=hashes(folder, self._files),
        )

    def _retrieval(self, variant: Variant, stages: Stages) -> None:
        stops = {RETRIEVAL_TEST: self._dataset.splits.test_start_ms, RETRIEVAL_LAST: self._dataset.splits.end_ms}
        if variant.retrieval == "kept":
            for stage in (RETRIEVAL, *stops):
                if not stages.done(stage):
                    arrays, header = self._base.result(stage)
                    stages.finish(stage, arrays, header["figures"])
            return
        stages.retrieval(self._learn(variant, stages.options, RETRIEVAL, stages.log))
        after = RETRIEVAL
        for stage, until_ms in stops.items():
            stages.refit(stage, after, until_ms, self._learn(variant, stages.options, stage, stages.log))
            after = stage

    def _learn(self, variant: Variant, options: TrainSection, stage: str, log: RunLog) -> Learn | None:
        """How a run of the retrieval model is learned; None for its own training."""
        before, after = sasrec_of(self._options), sasrec_of(options)
        work = SasRecWork(self._dataset, self._section, log, before)

        def pruned(run: Fit) -> RetrievalModel:
            return work.prune(self._base.result(RETRIEVAL)[0], after, run)

        def zeroed(run: Fit) -> RetrievalModel:
            return work.zero(run.weights or self._base.result(RETRIEVAL)[0], run)

        def taught(run: Fit) -> RetrievalModel:
            return work.teach(self._teacher.sasrec(stage), after, run)

        if variant.retrieval == "distilled":
            return taught
        if variant.retrieval == "magnitude":
            return zeroed
        return pruned if variant.retrieval == "pruned" and stage == RETRIEVAL else None

    def _ranking(self, variant: Variant, stages: Stages) -> None:
        if stages.done(RANKER):
            return
        if variant.ranking == "kept":
            arrays, header = self._base.result(RANKER)
            # where the candidates are another model's, validation said nothing of them
            stages.finish(RANKER, arrays, header["figures"] if variant.retrieval == "kept" else {})
            return
        log = Prefixed(self._log, stages.folder.name)
        run = RankerRun("ranker", stages.key, stages.options.seed, stages.checkpoint(RANKER), self._hardware)
        work = RankerWork(self._dataset, self._lists_of(stages), self._section, run, log)
        found = self._smaller(variant, stages, work)
        stages.finish(RANKER, found.arrays, {"ndcg@10": found.figure, "retrieval_ndcg@10": work.retrieval_figure()})

    def _smaller(self, variant: Variant, stages: Stages, work: RankerWork) -> Smaller:
        if variant.ranking == "distilled-pruned":
            first = Stages(self._dataset, self.smaller_options(VARIANTS["distilled"]), self.make("distilled"), None)
            return work.without_units(first.options, first.result(RANKER)[0], self._taught_of(stages))
        if variant.ranking == "pruned":
            return work.without_units(self._options, self._base.result(RANKER)[0], self._taught_of(stages))
        if variant.ranking == "magnitude":
            return work.with_zeros(self._options, self._base.result(RANKER)[0])
        return work.student(stages.options, self._taught_of(stages) if variant.ranking == "distilled" else None)

    def _lists_of(self, stages: Stages) -> RankerLists:
        """The candidate lists, made once for all rankers on one retrieval model: as the trained ranker had them, so
        that nothing else of a ranker makes them differ."""
        if stages.retrieval_key not in self._lists:
            options = stages.options.model_copy(update={"ranker": self._options.ranker})
            same = Stages(self._dataset, options, stages.folder, stages.log, self._hardware)
            self._lists[stages.retrieval_key] = same.ranker_lists()
        return self._lists[stages.retrieval_key]

    def _taught_of(self, stages: Stages) -> Taught:
        """What the teacher says of the lists."""
        key, section = stages.retrieval_key, self._section
        if key not in self._taught:
            kind = section.soft_loss or ("rows" if self._teacher.options.ranker.loss == "log_loss" else "lists")
            logits = teachings(self._teacher.ranker(), self._dataset, self._lists_of(stages), self._log)
            self._taught[key] = Taught(Soft(section.soft_weight, section.temperature, kind), logits)
        return self._taught[key]

    def _told_of_ranking(self, variant: Variant, options: TrainSection) -> list[str]:
        before, after = self._options.ranker, options.ranker
        told = []
        if variant.ranking in ("distilled", "distilled-pruned", "small"):
            student = self._student()
            way = "trained small, without a teacher" if variant.ranking == "small" else "distilled"
            kind = "" if student.model == self._teacher.options.ranker.model else f"{student.model}, "
            sizes = f"{self._size(self._teacher.options.ranker):,} parameters to {self._size(student):,}"
            told, before = [f"{way}: {sizes}, {kind}dim {student.dim}, hidden {student.hidden}"], student
        if variant.ranking in ("pruned", "distilled-pruned"):
            told.append(f"structured pruning: hidden units {before.hidden} to {after.hidden}")
        if variant.ranking == "magnitude":
            told.append(f"magnitude pruning: {self._section.prune_weights:.0%} of the layers' weights are zero")
        return told

    def _told_of_retrieval(self, variant: Variant, options: TrainSection) -> list[str]:
        if variant.retrieval == "kept":
            return []
        before, after = sasrec_of(self._options), sasrec_of(options)
        if variant.retrieval == "pruned":
            units = before.feed_units or 2 * before.dim
            return [f"structured pruning: feed-forward units {units} to {after.feed_units}"]
        if variant.retrieval == "magnitude":
            return [f"magnitude pruning: {self._section.prune_weights:.0%} of the layers' weights are zero"]
        way = "trained small, without a teacher" if variant.retrieval == "small" else "distilled"
        before = sasrec_of(self._teacher.options)
        counts = [
            parameters(build_sasrec(self._dataset, shape, self._base.ranker_start_ms, 0)) for shape in (before, after)
        ]
        return [
            f"{way}: {counts[0]:,} parameters to {counts[1]:,}, dim {before.dim} to {after.dim}, layers "
            f"{before.layers} to {after.layers}"
        ]

    def _size(self, options: RankerOptions) -> int:
        return parameters(build(ranker_inputs(self._dataset), options))


class Prefixed:
    """A log in which each stage has the variant's name before it."""

    def __init__(self, log: RunLog, prefix: str) -> None:
        self._log, self._prefix = log, prefix

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._log.start(f"{self._prefix}: {stage}", total, done)

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self._log.step(f"{self._prefix}: {stage}", done, figures)

    def finish(self, stage: str, note: str) -> None:
        self._log.finish(f"{self._prefix}: {stage}", note)


def _begin(folder: Path, options: TrainSection, record: Record) -> None:
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
