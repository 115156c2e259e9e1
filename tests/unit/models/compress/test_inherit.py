"""A student begins with the teacher's weights: the same scores wherever nothing had to be left out."""

import pytest
import torch
from torch import Tensor

from models.compress.inherit import inherit, inherits
from models.ranking.build import build
from models.ranking.inputs import MultiField, RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker

INPUTS = RankerInputs(
    {"user_id": 12, "age": 4}, 2, {"item_id": 9, "genre": 5, "brand": 3}, 3, 4, None, {"tag": MultiField(6, 2)}
)
FAMILY = ("lr", "fm", "wide_deep", "deepfm")
CROSSES = {"wide_deep": [("age", "genre"), ("genre", "brand")]}


def options(model: str, dim: int = 4, hidden: tuple[int, ...] = (6, 5)) -> RankerOptions:
    crosses = CROSSES.get(model, [])
    return RankerOptions.model_validate({"model": model, "dim": dim, "hidden": hidden, "crosses": crosses})


def made(chosen: RankerOptions, seed: int, scale: float = 1.0) -> Ranker:
    """All its weights drawn, but for the vectors of the unknown ids, which are always zero."""
    torch.manual_seed(seed)
    model = build(INPUTS, chosen).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)
        for side in (model.user_module, model.item_module):
            tables = [module for module in side.modules() if hasattr(module, "unknown_id")]
            for table in tables:
                table.table[table.unknown_id] = 0.0
    return model


def scores(model: Ranker) -> Tensor:
    """Of 40 candidates of 5 users."""
    rng = torch.Generator().manual_seed(1)
    users = torch.stack([torch.randint(size, (5,), generator=rng) for size in (12, 4)], 1)
    items = torch.stack([torch.randint(size, (40,), generator=rng) for size in (9, 5, 3, 6, 6)], 1)
    numbers = [torch.randn(shape, generator=rng) for shape in ((5, 2), (40, 3), (40, 4))]
    with torch.no_grad():
        found: Tensor = model(users, numbers[0], items, numbers[1], numbers[2], torch.arange(40) % 5)
    return found


def in_few_directions(model: Ranker, count: int) -> None:
    """Let all vectors of the fields lie in a plane of that many dimensions, whichever it is."""
    directions = torch.linalg.qr(torch.randn(model.user_module.embedding.dim, count)).Q.T
    with torch.no_grad():
        for side in (model.user_module, model.item_module):
            for array in side.embedding.parameters():
                array.copy_(array @ directions.T @ directions)
        for term in model.head_module.terms:
            if hasattr(term, "cross"):  # the vectors of the cross features
                term.cross.copy_(term.cross @ directions.T @ directions)


@pytest.mark.parametrize("model", FAMILY)
def test_a_student_of_the_same_size_is_the_teacher(model: str) -> None:
    teacher, student = made(options(model), 0), made(options(model), 1)
    assert not torch.allclose(scores(student), scores(teacher))
    inherit(student, teacher)
    assert scores(student).tolist() == scores(teacher).tolist()


@pytest.mark.parametrize("model", ["fm", "wide_deep", "deepfm"])
def test_shorter_vectors_say_the_same_where_the_longer_ones_had_dimensions_to_spare(model: str) -> None:
    teacher, student = made(options(model, dim=8), 0), made(options(model, dim=3), 1)
    in_few_directions(teacher, 3)
    inherit(student, teacher)
    torch.testing.assert_close(scores(student), scores(teacher), rtol=1e-4, atol=1e-4)


def test_of_many_directions_those_stay_in_which_the_vectors_of_either_side_are_longest() -> None:
    teacher, student = made(options("fm", dim=8), 0, 0.01), made(options("fm", dim=2), 1)
    users, items = (side.embedding.table for side in (teacher.user_module, teacher.item_module))
    with torch.no_grad():
        users[:, 5] *= 1000
        items[:, 2] *= 300
    inherit(student, teacher)
    for side, table in ((student.user_module, users), (student.item_module, items)):
        torch.testing.assert_close(side.embedding.table.abs(), table[:, [5, 2]].abs(), rtol=0.1, atol=0.1)


def test_a_student_without_some_of_the_teachers_terms_has_the_others() -> None:
    """deepfm = linear + pairs + perceptron, so that it is fm + wide_deep - lr."""
    teacher = made(options("deepfm"), 0)
    found = {}
    for model in ("lr", "fm", "wide_deep"):
        student = made(options(model).model_copy(update={"crosses": []}), 1)
        inherit(student, teacher)
        found[model] = scores(student)
    torch.testing.assert_close(found["fm"] + found["wide_deep"] - found["lr"], scores(teacher), rtol=1e-4, atol=1e-3)


def test_statistics_of_the_batch_norm_are_the_teachers() -> None:
    normed = options("deepfm").model_copy(update={"batch_norm": True})
    teacher, student = made(normed, 0), made(normed, 1)
    for name, buffer in teacher.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    inherit(student, teacher)
    assert scores(student).tolist() == scores(teacher).tolist()


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (options("wide_deep", 3, (4, 2)), options("deepfm"), True),
        (options("deepfm"), options("deepfm"), True),
        (options("lr", dim=64, hidden=(9,)), options("deepfm"), True),
        (options("fm", 3, (99,)), options("deepfm"), True),
        (options("deepfm"), options("wide_deep"), False),
        (options("wide_deep"), options("fm"), False),
        (options("wide_deep", dim=5), options("deepfm", dim=4), False),
        (options("wide_deep", hidden=(6,)), options("deepfm"), False),
        (options("wide_deep", hidden=(5, 6)), options("deepfm"), False),
        (options("fnn", 3, (4, 2)), options("fnn"), False),
        (options("wide_deep", 3, (4, 2)), options("pnn"), False),
    ],
)
def test_only_a_part_of_the_teacher_can_be_given(
    student: RankerOptions, teacher: RankerOptions, expected: bool
) -> None:
    assert inherits(student, teacher) is expected
