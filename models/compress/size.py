"""How large a model is, and the shape of a student."""

from collections.abc import Callable

from torch import nn

from models.compress.options import StudentRanker, StudentSasRec
from models.options import SasRecOptions
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerName, RankerOptions

SHARE = 0.25  # of the teacher's parameters, at most, for a student whose shape is not given
# A factorisation machine's sums are most of a small graph's time, and the teacher says what they would have learned.
FASTER: dict[RankerName, RankerName] = {"deepfm": "wide_deep"}


def parameters(model: nn.Module) -> int:
    """Of all its weights, those of the embeddings included."""
    return sum(parameter.numel() for parameter in model.parameters())


def student_ranker(inputs: RankerInputs, teacher: RankerOptions, wanted: StudentRanker) -> RankerOptions:
    """Options of the student. Raises ValueError for one that is not smaller than the teacher.

    Where nothing is wanted: a wide_deep for a deepfm, otherwise the teacher's model; a quarter of each layer's units,
    and the longest vectors, at most half as long, that keep the parameters within SHARE.
    """
    limit = parameters(build(inputs, teacher))

    def size(options: RankerOptions) -> int:
        return parameters(build(inputs, options))

    hidden = wanted.hidden or [max(1, units // 4) for units in teacher.hidden]
    model = wanted.model or FASTER.get(teacher.model, teacher.model)
    crosses = teacher.crosses if model == teacher.model else []
    shape = teacher.model_copy(update={"model": model, "hidden": hidden, "crosses": crosses})
    if wanted.dim is not None or wanted.hidden is not None:
        shape = shape.model_copy(update={"dim": wanted.dim or teacher.dim})
    else:
        shape = shape.model_copy(update={"dim": _longest(shape, size, limit)})
    if size(shape) >= limit:
        raise ValueError(
            f"[compress.student] model = {shape.model!r}, dim = {shape.dim}, hidden = {shape.hidden} gives a ranker of "
            f"{size(shape):,} parameters, and the teacher has {limit:,}: lower dim or hidden"
        )
    return shape


def _longest(shape: RankerOptions, size: Callable[[RankerOptions], int], limit: int) -> int:
    """The length of the vectors; 1, or as many as there are heads, where none keeps within SHARE."""
    step = shape.heads if shape.model == "transformer" else 1
    for dim in range(shape.dim // 2 // step * step, 0, -step):
        if size(shape.model_copy(update={"dim": dim})) <= SHARE * limit:
            return dim
    return step


def student_sasrec(teacher: SasRecOptions, wanted: StudentSasRec) -> SasRecOptions:
    """Options of the student. Raises ValueError for one that is not smaller than the teacher in dim or layers, larger
    in one of them, or whose heads do not divide dim."""
    heads = wanted.heads or teacher.heads
    dim = wanted.dim or max(4, teacher.dim // 2 // heads * heads)
    layers = wanted.layers or max(1, teacher.layers // 2)
    if dim % heads:
        raise ValueError(f"[compress.retrieval_student] dim = {dim} is not a multiple of heads = {heads}")
    if dim > teacher.dim or layers > teacher.layers or (dim, layers) == (teacher.dim, teacher.layers):
        raise ValueError(
            f"[compress.retrieval_student] dim = {dim}, layers = {layers} is not smaller than the teacher's "
            f"dim = {teacher.dim}, layers = {teacher.layers}: lower one of them"
        )
    return teacher.model_copy(update={"dim": dim, "layers": layers, "heads": heads, "feed_units": None})
