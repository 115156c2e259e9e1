"""Trained models made smaller. What comes out is an ordinary training folder, `<train>/compressed/<name>/`, with
options that describe the smaller shape: it is loaded, evaluated and exported like any other."""

from collections.abc import Sequence
from pathlib import Path

from models.compress.folder import begin, compressed_folder
from models.compress.options import CompressSection
from models.compress.plan import Plan
from models.compress.ranker import RankerWork, Smaller, teachings
from models.compress.record import Record, hashes
from models.compress.retrieval import SasRecWork, sasrec_of
from models.compress.soft import Soft, Taught
from models.compress.teacher import Teacher
from models.compress.variants import VARIANTS, Variant, chosen
from models.data.dataset import Dataset
from models.fitting import Fit
from models.hardware import CPU, Hardware
from models.options import TrainSection
from models.ranker_lists import RankerLists, ranker_lists
from models.ranking.train import RankerRun
from models.retrieval.model import RetrievalModel
from models.run_log import Prefixed, RunLog
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, StageFiles
from models.train import Learn, Stages


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
    trained = Teacher(dataset, options, folder)
    trained.check_trained()
    if teacher is not None:
        teacher.check(dataset, options)
    wanted = chosen(names, options)
    plan = Plan(dataset, options, section, teacher or trained)
    for name in wanted:
        plan.options(VARIANTS[name])
    files = [*trained.files, *(teacher.files if teacher else [])]
    work = _Compression(plan, StageFiles(dataset, options, folder), files, log, hardware)
    return [work.make(name) for name in wanted]


class _Compression:
    """base: the stages of the trained models.  files: what all that is made follows from."""

    def __init__(self, plan: Plan, base: StageFiles, files: list[Path], log: RunLog, hardware: Hardware) -> None:
        self._plan, self._base, self._files, self._log, self._hardware = plan, base, files, log, hardware
        self._dataset, self._options, self._section = plan.dataset, plan.trained, plan.section
        self._lists: dict[str, RankerLists] = {}
        self._taught: dict[str, Taught] = {}

    def make(self, name: str) -> Path:
        variant, folder = VARIANTS[name], compressed_folder(self._base.folder, name)
        options = self._plan.options(variant)
        record = Record(
            name=name,
            retrieval=self._plan.told_of_retrieval(variant),
            ranking=self._plan.told_of_ranking(variant),
            settings=self._section.model_dump_json(),
            teachers=hashes(folder, self._files),
        )
        begin(folder, options, record)
        stages = Stages(self._dataset, options, folder, Prefixed(self._log, name), self._hardware)
        self._retrieval(variant, stages)
        if options.ranker.model != "none":
            self._ranking(variant, stages)
        return folder

    def _retrieval(self, variant: Variant, stages: Stages) -> None:
        stops = {RETRIEVAL_TEST: self._dataset.splits.test_start_ms, RETRIEVAL_LAST: self._dataset.splits.end_ms}
        if variant.retrieval == "kept":
            for stage in (RETRIEVAL, *stops):
                if not stages.done(stage):
                    arrays, header = self._base.result(stage)
                    stages.files.finish(stage, arrays, header["figures"])
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
            return work.teach(self._plan.teacher.sasrec(stage), after, run)

        if variant.retrieval == "distilled":
            return taught
        if variant.retrieval == "magnitude":
            return zeroed
        return pruned if variant.retrieval == "pruned" and stage == RETRIEVAL else None

    def _ranking(self, variant: Variant, stages: Stages) -> None:
        if stages.done(RANKER):
            return
        files = stages.files
        if variant.ranking == "kept":
            arrays, header = self._base.result(RANKER)
            # where the candidates are another model's, validation said nothing of them
            files.finish(RANKER, arrays, header["figures"] if variant.retrieval == "kept" else {})
            return
        run = RankerRun("ranker", files.key, stages.options.seed, files.checkpoint(RANKER), self._hardware)
        work = RankerWork(self._dataset, self._lists_of(stages), self._section, run, stages.log)
        found = self._smaller(variant, stages, work)
        files.finish(RANKER, found.arrays, {"ndcg@10": found.figure, "retrieval_ndcg@10": work.retrieval_figure()})

    def _smaller(self, variant: Variant, stages: Stages, work: RankerWork) -> Smaller:
        if variant.ranking == "pruned":
            return work.without_units(self._options, self._base.result(RANKER)[0], self._taught_of(stages))
        if variant.ranking == "magnitude":
            return work.with_zeros(self._options, self._base.result(RANKER)[0])
        if variant.ranking == "small":
            return work.student(stages.options)
        begin = work.inheritance(stages.options.ranker, self._plan.teacher)
        if variant.ranking == "distilled" or begin is not None:  # pruned before it begins rather than afterwards
            return work.student(stages.options, self._taught_of(stages), begin)
        options = self._plan.options(VARIANTS["distilled"])
        first = StageFiles(self._dataset, options, self.make("distilled"))
        return work.without_units(options, first.result(RANKER)[0], self._taught_of(stages))

    def _lists_of(self, stages: Stages) -> RankerLists:
        """The candidate lists, made once for all rankers on one retrieval model: as the trained ranker had them, so
        that nothing else of a ranker makes them differ."""
        key = stages.files.retrieval_key
        if key not in self._lists:
            options = stages.options.model_copy(update={"ranker": self._options.ranker})
            self._lists[key] = ranker_lists(self._dataset, options, stages.files.folder, stages.log)
        return self._lists[key]

    def _taught_of(self, stages: Stages) -> Taught:
        """What the teacher says of the lists."""
        key, section, teacher = stages.files.retrieval_key, self._section, self._plan.teacher
        if key not in self._taught:
            kind = section.soft_loss or ("rows" if teacher.options.ranker.loss == "log_loss" else "lists")
            logits = teachings(teacher.ranker(), self._dataset, self._lists_of(stages), self._log)
            self._taught[key] = Taught(Soft(section.soft_weight, section.temperature, kind), logits)
        return self._taught[key]
