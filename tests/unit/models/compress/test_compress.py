"""Every way of making trained models smaller, on the planted shop: folders that load like any other."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from planted import user_id, write_planted

from models import checkpoint
from models.checkpoint import CheckpointError
from models.compress.folder import OPTIONS, compressed_folder
from models.compress.magnitude import layer_weights, zeros
from models.compress.options import CompressSection, StudentRanker, StudentSasRec
from models.compress.ranker import RankerWork
from models.compress.run import compress
from models.compress.size import parameters
from models.compress.teacher import Teacher, differing_features
from models.compress.variants import OF_RANKER, OF_RETRIEVAL, VARIANTS, chosen
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.fitting import Fit
from models.options import SasRecOptions, TrainSection
from models.ranker_lists import ranker_lists
from models.ranking.build import build as build_ranker_model
from models.ranking.options import RankerOptions
from models.ranking.train import RankerRun, ranker_inputs
from models.retrieval.sasrec_training import TaughtItems, build, make_task
from models.run_log import Silent
from models.stage_files import RANKER, RETRIEVAL, StageFiles
from models.train import train
from models.trained import Trained, load_trained

SASREC = SasRecOptions(
    dim=16, layers=2, history_length=20, moments=8, negatives=64, max_steps=10, patience=8, learning_rate=1e-2
)
TRAINED = TrainSection(
    refit_share=0.3,
    retrieval=SASREC,
    ranker=RankerOptions(windows=1, epochs=1, dim=8, hidden=[16, 8], learning_rate=1e-2),
)
SECTION = CompressSection(rounds=2)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("shop"))


def prepared(folder: Path, changes: Mapping[str, str] = MappingProxyType({})) -> Dataset:
    """The shop with a fifth of its users.  changes: of shortlist.toml."""
    config = write_planted(folder).config
    lines = pq.read_table(config.parent / "interactions.parquet")
    pq.write_table(lines.filter(pc.less(lines["user_id"], user_id(60))), config.parent / "interactions.parquet")
    text = config.read_text("utf-8")
    for before, after in changes.items():
        text = text.replace(before, after)
    config.write_text(text, "utf-8")
    return load_dataset(prepare_dataset(load_config(config), folder / "data").folder)


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, with all variants beside; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    train(dataset, TRAINED, folder, Silent())
    compress(dataset, TRAINED, folder, SECTION, Silent(), list(VARIANTS))
    return folder


def options_of(folder: Path) -> TrainSection:
    return TrainSection.model_validate_json((folder / OPTIONS).read_bytes())


def loaded(dataset: Dataset, folder: Path, name: str) -> Trained:
    path = compressed_folder(folder, name)
    return load_trained(dataset, options_of(path), path, for_test=False)


def arrays(folder: Path, stage: str) -> dict[str, np.ndarray]:
    return checkpoint.load(folder / f"{stage}.npz")[0]


def test_every_variant_is_a_training_folder_that_says_what_was_done(dataset: Dataset, folder: Path) -> None:
    told = {name: loaded(dataset, folder, name).compression for name in VARIANTS}
    assert told["pruned"] == {"retrieval": [], "ranking": ["structured pruning: hidden units [16, 8] to [8, 4]"]}
    assert told["magnitude"]["ranking"] == ["magnitude pruning: 50% of the layers' weights are zero"]
    assert [line.split(":")[0] for line in told["distilled-pruned"]["ranking"]] == ["distilled"]
    assert "hidden [2, 1], begun" in told["distilled-pruned"]["ranking"][0]
    assert told["small"]["ranking"][0].startswith("trained small, without a teacher: ")
    begun = {name: "begun with the teacher's weights" in str(told[name]["ranking"]) for name in VARIANTS}
    assert [name for name, is_begun in begun.items() if is_begun] == ["distilled", "distilled-pruned", "both-distilled"]
    assert told["retrieval-pruned"]["retrieval"] == ["structured pruning: feed-forward units 32 to 16"]
    assert [bool(told["both-distilled"][part]) for part in ("retrieval", "ranking")] == [True, True]
    assert load_trained(dataset, TRAINED, folder, for_test=False).compression == {}
    keys = {loaded(dataset, folder, name).key for name in VARIANTS}
    assert len(keys) == len(VARIANTS), "a report of one is not taken for another's"
    left = {path.name for path in compressed_folder(folder, "pruned").iterdir()}
    assert left == {OPTIONS, "compression.json", *(f"{s}.npz" for s in ("retrieval", "retrieval_test", "ranker"))} | {
        "retrieval_last.npz"
    }


def test_shapes_are_smaller_where_they_should_be(dataset: Dataset, folder: Path) -> None:
    teacher = load_trained(dataset, TRAINED, folder, for_test=False)
    assert teacher.ranker is not None
    rankers = {name: loaded(dataset, folder, name).ranker for name in OF_RANKER}
    assert options_of(compressed_folder(folder, "pruned")).ranker.hidden == [8, 4]
    assert options_of(compressed_folder(folder, "distilled-pruned")).ranker.hidden == [2, 1]
    sizes = {name: parameters(ranker) for name, ranker in rankers.items() if ranker is not None}
    assert sizes["distilled"] == sizes["small"] <= parameters(teacher.ranker) / 4 < sizes["pruned"]
    assert sizes["magnitude"] == parameters(teacher.ranker) > sizes["pruned"]
    assert rankers["pruned"] is not None
    assert rankers["pruned"].item_module.width == 1 + 8 + 8, "a row: own score, a vector, a share of 8 units, not 16"
    towers = {name: loaded(dataset, folder, name).retrieval for name in ("retrieval-distilled", "retrieval-pruned")}
    assert parameters(towers["retrieval-distilled"]) < parameters(teacher.retrieval) / 2
    student = options_of(compressed_folder(folder, "both-distilled")).retrieval
    assert isinstance(student, SasRecOptions)
    assert (student.dim, student.layers) == (8, 1)


def test_half_of_the_weights_are_zero_and_the_tables_are_not(dataset: Dataset, folder: Path) -> None:
    for name, stage, model in (
        ("magnitude", RANKER, loaded(dataset, folder, "magnitude").ranker),
        ("retrieval-magnitude", RETRIEVAL, loaded(dataset, folder, "retrieval-magnitude").retrieval),
    ):
        assert model is not None
        found, names = arrays(compressed_folder(folder, name), stage), list(layer_weights(model))
        assert zeros(found, names) == pytest.approx(0.5, abs=0.02)
        tables = [key for key in found if "table" in key and found[key].size]
        assert zeros(found, tables) < zeros(arrays(folder, stage), tables) + 0.01


def test_a_student_with_a_teacher_is_another_one_than_without(folder: Path) -> None:
    one, other = (arrays(compressed_folder(folder, name), RANKER) for name in ("distilled", "small"))
    assert one.keys() == other.keys()
    assert not all(np.array_equal(one[name], other[name]) for name in one)


def test_a_student_that_begins_with_the_teachers_weights_has_no_dropout(folder: Path) -> None:
    found = {name: options_of(compressed_folder(folder, name)).ranker for name in ("distilled", "small")}
    assert [(one.dropout, one.embedding_dropout) for one in found.values()] == [(0.0, 0.0), (0.1, 0.1)]


def vectors(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of all fields of both sides, [n, d]."""
    names = [f"{side}_module.embedding.{kind}" for side in ("user", "item") for kind in ("table", "numeric")]
    return np.concatenate([found[name] for name in names])


def test_a_student_begins_with_the_longest_of_the_teachers_vectors(dataset: Dataset, copied: Path) -> None:
    """And is left there by a rate of learning at which nothing is learned."""
    slow = TRAINED.model_copy(update={"ranker": TRAINED.ranker.model_copy(update={"learning_rate": 1e-9})})
    train(dataset, slow, copied, Silent())
    for path in compress(dataset, slow, copied, SECTION, Silent(), ["distilled", "distilled-pruned"]):
        student, teacher = (vectors(arrays(one, RANKER)) for one in (path, copied))
        lengths = [np.linalg.svd(one, compute_uv=False) for one in (student, teacher)]
        np.testing.assert_allclose(lengths[0], lengths[1][: student.shape[1]], rtol=1e-4)


def test_a_student_begins_with_the_units_that_matter(dataset: Dataset, copied: Path) -> None:
    """All others of the teacher lead nowhere."""
    kept, path = [[1, 5, 6, 15], [2, 7]], copied / f"{RANKER}.npz"
    found, header = checkpoint.load(path)
    deep = "head_module.terms.1.mlp."
    for name, units in zip((f"{deep}layers.0.weight", f"{deep}out.weight"), kept, strict=True):
        found[name][:, np.setdiff1d(np.arange(found[name].shape[1]), units)] = 0.0
    checkpoint.save(path, found, header)
    lists, run = ranker_lists(dataset, TRAINED, copied, Silent()), RankerRun("ranker", "", 0, copied / "checkpoint.npz")
    student = TRAINED.ranker.model_copy(update={"model": "wide_deep", "dim": 3, "hidden": [4, 2]})
    work = RankerWork(dataset, lists, CompressSection(importance="norm"), run, Silent())
    begin = work.inheritance(student, Teacher(dataset, TRAINED, copied))
    model = build_ranker_model(ranker_inputs(dataset), student)
    assert begin is not None
    begin(model)
    begun = checkpoint.weights(model)
    deep_of_student = deep.replace("terms.1", "terms.0")
    first, out = found[f"{deep}layers.0.weight"], found[f"{deep}out.weight"]
    assert begun[f"{deep_of_student}layers.0.weight"].tolist() == first[np.ix_(kept[1], kept[0])].tolist()
    assert begun[f"{deep_of_student}out.weight"].tolist() == out[:, kept[1]].tolist()


def test_a_student_of_another_kind_begins_anew(dataset: Dataset, copied: Path) -> None:
    """Its units are pruned once it is finished."""
    section = CompressSection(student=StudentRanker(model="ipnn", dim=2, hidden=[4, 2]))
    paths = compress(dataset, TRAINED, copied, section, Silent(), ["distilled", "distilled-pruned"])
    assert [options_of(path).ranker.hidden for path in paths] == [[4, 2], [2, 1]]
    assert all(options_of(path).ranker.dropout == TRAINED.ranker.dropout for path in paths)
    told = [loaded(dataset, copied, path.name).compression["ranking"] for path in paths]
    assert [len(steps) for steps in told] == [1, 2]
    assert "begun" not in str(told)


def test_a_pruned_ranker_is_fine_tuned_by_the_whole_one(dataset: Dataset, folder: Path, copied: Path) -> None:
    hardly_taught = CompressSection(rounds=SECTION.rounds, soft_weight=0.01)
    (path,) = compress(dataset, TRAINED, copied, hardly_taught, Silent(), ["pruned"])
    one, other = arrays(path, RANKER), arrays(compressed_folder(folder, "pruned"), RANKER)
    assert one.keys() == other.keys()
    assert not all(np.array_equal(one[name], other[name]) for name in one)


def test_what_is_not_made_smaller_is_the_trained_model_to_the_bit(folder: Path) -> None:
    for name, stage in (("pruned", RETRIEVAL), ("retrieval-pruned", RANKER)):
        kept, before = arrays(compressed_folder(folder, name), stage), arrays(folder, stage)
        assert all(kept[key].tobytes() == before[key].tobytes() for key in before)


class Counting(Silent):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self.steps.append(stage)


def test_what_is_finished_is_not_done_again(dataset: Dataset, folder: Path) -> None:
    log = Counting()
    assert compress(dataset, TRAINED, folder, SECTION, log) == [compressed_folder(folder, name) for name in OF_RANKER]
    assert log.steps == []


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The trained models alone, to be written to."""
    for path in folder.glob("*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


class Interrupting(Silent):
    """Presses Ctrl-C in the second round of pruning."""

    def __init__(self) -> None:
        self.fine_tunings = 0

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self.fine_tunings += stage == "pruned: ranker"
        if self.fine_tunings == 2:
            raise KeyboardInterrupt


def test_interrupted_pruning_goes_on_after_its_finished_rounds(dataset: Dataset, folder: Path, copied: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compress(dataset, TRAINED, copied, SECTION, Interrupting(), ["pruned"])
    log = Interrupting()
    (path,) = compress(dataset, TRAINED, copied, SECTION, log, ["pruned"])
    assert log.fine_tunings == 1, "the first round was kept"
    found, whole = arrays(path, RANKER), arrays(compressed_folder(folder, "pruned"), RANKER)
    assert all(found[key].tobytes() == whole[key].tobytes() for key in whole)


def test_models_of_a_teacher_that_was_trained_anew_are_refused(dataset: Dataset, copied: Path) -> None:
    (path,) = compress(dataset, TRAINED, copied, SECTION, Silent(), ["small"])
    weights, header = checkpoint.load(copied / f"{RANKER}.npz")
    weights["head_module.bias"] += 1.0
    checkpoint.save(copied / f"{RANKER}.npz", weights, {name: header[name] for name in ("key", "figures")})
    with pytest.raises(CheckpointError, match=r"small: was made from other models than .*ranker\.npz now holds"):
        load_trained(dataset, options_of(path), path, for_test=True)
    compress(dataset, TRAINED, copied, SECTION, Silent(), ["small"])
    load_trained(dataset, options_of(path), path, for_test=True)


def refused(dataset: Dataset, folder: Path, options: TrainSection, section: CompressSection, *names: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        compress(dataset, options, folder, section, Silent(), names)
    return str(caught.value)


def test_what_cannot_be_done_is_named_before_anything_is(dataset: Dataset, copied: Path) -> None:
    assert "--only tiny: is not one of pruned, " in refused(dataset, copied, TRAINED, SECTION, "tiny")
    large = CompressSection(student=StudentRanker(dim=8, hidden=[64]))
    told = refused(dataset, copied, TRAINED, large, "pruned", "distilled")
    assert told.startswith("[compress.student] model = 'wide_deep', dim = 8, hidden = [64] gives a ranker of ")
    flat = CompressSection(student=StudentRanker(model="fm"))
    told = refused(dataset, copied, TRAINED, flat, "distilled-pruned")
    assert told.startswith("--only distilled-pruned: [compress.student] model = 'fm' has no hidden units")
    same = CompressSection(retrieval_student=StudentSasRec(dim=16, layers=2))
    told = refused(dataset, copied, TRAINED, same, "retrieval-distilled")
    assert told.startswith("[compress.retrieval_student] dim = 16, layers = 2 is not smaller than the teacher's")
    assert not (copied / "compressed").exists()


@pytest.mark.parametrize("ranker", [RankerOptions(model="none"), RankerOptions(learn_from="interactions")])
def test_without_a_ranker_of_candidates_those_of_retrieval_are_made(ranker: RankerOptions) -> None:
    options = TRAINED.model_copy(update={"ranker": ranker})
    assert chosen([], options) == OF_RETRIEVAL
    assert OF_RETRIEVAL == ["retrieval-pruned", "retrieval-magnitude", "retrieval-distilled", "retrieval-small"]
    with pytest.raises(ValueError, match=r"--only small: \[train.ranker\] "):
        chosen(["small"], options)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5])
@pytest.mark.parametrize("key", ["prune_units", "prune_weights"])
def test_a_share_outside_0_to_1_is_named(key: str, share: float) -> None:
    with pytest.raises(ValueError, match=key):
        CompressSection.model_validate({key: share})


def test_nothing_was_trained(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"retrieval\.npz: does not exist; run `shortlist train`"):
        compress(dataset, TRAINED, tmp_path, SECTION, Silent())


def test_models_without_hidden_units_can_only_be_distilled(dataset: Dataset, copied: Path) -> None:
    machine = TRAINED.model_copy(update={"ranker": RankerOptions(model="fm", windows=1, dim=4, epochs=1)})
    train(dataset, machine, copied, Silent())
    assert "model = 'fm' has no hidden units for [compress] prune_units" in refused(
        dataset, copied, machine, SECTION, "pruned"
    )
    assert [path.name for path in compress(dataset, machine, copied, SECTION, Silent())] == ["distilled", "small"]


def test_a_teacher_with_other_features_is_refused_by_their_names(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    without = {'{ name = "brand", kind = "categorical" },': "", 'affinity = ["category"]': "affinity = []"}
    poorer = prepared(tmp_path / "shop", without)
    assert differing_features(dataset.schema, poorer.schema) == ["brand", "affinity of category"]
    assert differing_features(dataset.schema, dataset.schema) == []
    with pytest.raises(ValueError, match="other features than the student: brand, affinity of category; prepare"):
        Teacher(dataset, TRAINED, folder).check(poorer, TRAINED)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("test_days = 14", "test_days = 7", "its windows are others: ranker_start_ms is .*, test_start_ms is .*split"),
        ('["title", "category", "price"]', '["title"]', "has other data than the student .fingerprint "),
    ],
)
def test_a_teacher_of_other_data_is_refused(
    dataset: Dataset, folder: Path, tmp_path: Path, before: str, after: str, told: str
) -> None:
    """With another test window, it may have learned from the student's."""
    other = prepared(tmp_path / "shop", {before: after})
    with pytest.raises(ValueError, match=told):
        Teacher(dataset, TRAINED, folder).check(other, TRAINED)


LARGE = TRAINED.ranker.model_copy(update={"dim": 12, "hidden": [24, 12], "loss": "softmax"})
STUDENT = CompressSection(student=StudentRanker(dim=8, hidden=[16, 8]))


@pytest.fixture(scope="module")
def large(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Of another folder, trained on other lists and for their order."""
    options = TRAINED.model_copy(update={"ranker": LARGE.model_copy(update={"negatives": 3})})
    folder = tmp_path_factory.mktemp("large")
    train(dataset, options, folder, Silent())
    return Teacher(dataset, options, folder)


def test_a_larger_model_of_another_folder_teaches(dataset: Dataset, copied: Path, large: Teacher) -> None:
    """A student that may have the shape of the trained ranker, since the teacher has more parameters. Beside another
    variant it is the same to the bit as alone."""
    (alone,) = compress(dataset, TRAINED, copied, STUDENT, Silent(), ["distilled"], large)
    assert loaded(dataset, copied, "distilled").compression["ranking"][0].startswith("distill")
    told = options_of(alone).ranker
    assert (told.negatives, told.loss) == (TRAINED.ranker.negatives, "softmax"), "its lists are the trained model's"
    # the softmax that the teacher learned by says an order: that is what its student learns, unless told otherwise
    weights, order = arrays(alone, RANKER), STUDENT.model_copy(update={"soft_loss": "lists"})
    for section in (STUDENT, order):
        shutil.rmtree(copied / "compressed")
        compress(dataset, TRAINED, copied, section, Silent(), ["pruned", "distilled"], large)
        beside = arrays(alone, RANKER)
        assert all(beside[name].tobytes() == weights[name].tobytes() for name in weights)


def test_a_student_has_its_teachers_model_and_the_lists_of_the_trained_one(dataset: Dataset, tmp_path: Path) -> None:
    """More windows would begin in what the kept retrieval model has learned."""
    other = LARGE.model_copy(update={"windows": 2, "negatives": 3, "impressions": True, "history_length": 7})
    teacher = Teacher(dataset, TRAINED.model_copy(update={"ranker": other}), tmp_path)
    assert teacher.ranker_options(TRAINED.ranker) == LARGE


def test_compressed_models_go_when_their_teacher_does(dataset: Dataset, copied: Path) -> None:
    teacher = copied / "teacher"
    teacher.mkdir()
    for path in copied.glob("*.npz"):
        shutil.copy(path, teacher)
    (path,) = compress(dataset, TRAINED, copied, SECTION, Silent(), ["distilled"], Teacher(dataset, TRAINED, teacher))
    load_trained(dataset, options_of(path), path, for_test=False)
    (teacher / "ranker.npz").unlink()
    with pytest.raises(CheckpointError, match="was made from other models"):
        load_trained(dataset, options_of(path), path, for_test=False)


@pytest.mark.parametrize(
    ("teacher", "trained", "told"),
    [
        ({"model": "transformer", "history_length": 10}, {}, "history_length is 10, and .* have 0 interactions"),
        (
            {"model": "transformer", "history_length": 10},
            {"model": "transformer", "history_length": 20},
            "history_length is 10, and .* have 20 interactions",
        ),
        ({"loss": "squared"}, {"propensity": "position"}, 'loss is "squared", and the propensity'),
        ({"learn_from": "interactions"}, {}, "learn_from is 'interactions', the student's 'candidates'"),
        ({"model": "none"}, {}, "model is 'none'"),
    ],
)
def test_a_teacher_that_has_no_use_for_the_lists_of_the_trained_ranker_is_refused(
    dataset: Dataset, tmp_path: Path, teacher: dict[str, object], trained: dict[str, object], told: str
) -> None:
    options = TRAINED.model_copy(update={"ranker": TRAINED.ranker.model_copy(update=teacher)})
    with pytest.raises(ValueError, match=told):
        Teacher(dataset, options, tmp_path).check_ranker(TRAINED.ranker.model_copy(update=trained))


def test_a_deepfm_may_teach_beside_a_transformer(dataset: Dataset, tmp_path: Path) -> None:
    Teacher(dataset, TRAINED, tmp_path).check_ranker(RankerOptions(model="transformer", history_length=10))


@pytest.mark.parametrize("name", ["retrieval-distilled", "both-distilled"])
def test_a_teacher_whose_retrieval_knows_what_the_students_ranker_learns_from_is_refused(
    dataset: Dataset, folder: Path, tmp_path: Path, name: str
) -> None:
    later = Teacher(dataset, TRAINED, folder)  # one ranker window, so that retrieval learned from the one before it
    options = TRAINED.model_copy(update={"ranker": TRAINED.ranker.model_copy(update={"windows": 2})})
    files = StageFiles(dataset, options, tmp_path)
    for path in later.files:
        files.finish(path.stem, arrays(folder, path.stem), {})
    with pytest.raises(ValueError, match=r"the student's ranker learns from: its \[train.ranker\] windows is 1; train"):
        compress(dataset, options, tmp_path, SECTION, Silent(), [name], later)
    assert not (tmp_path / "compressed").exists()


@pytest.mark.parametrize("loss", ["sampled_softmax", "softmax", "bce"])
def test_a_sasrec_that_is_its_own_teacher_has_nothing_to_learn(dataset: Dataset, folder: Path, loss: str) -> None:
    teacher, student = (Teacher(dataset, TRAINED, folder).sasrec(RETRIEVAL) for _ in range(2))
    run = Fit(RETRIEVAL, "key", 0, dataset.splits.valid_start_ms, folder / "unused.npz")
    options = SASREC.model_copy(update={"loss": loss})
    for weight, learns in ((1.0, False), (0.5, True)):
        task = make_task(dataset, student, options, run, TaughtItems(teacher, weight, 2.0))
        found = task.loss(0, 0, np.random.default_rng(0)).mean
        student.zero_grad()
        found.backward()
        largest = max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)
        assert ((found.item() > 0.01, largest > 1e-3) == (True, True)) is learns
        assert learns or (abs(found.item()) < 1e-5 and largest < 1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    stranger = build(dataset, options, run.until_ms, 1).eval()
    task = make_task(dataset, stranger, options, run, TaughtItems(teacher, 1.0, 2.0))
    assert task.loss(0, 0, np.random.default_rng(0)).mean.item() > 0.01, "another model has something to learn"
