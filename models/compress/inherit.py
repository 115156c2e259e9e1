"""What a student begins with: the teacher's own weights, cut down to its size. (DistilBERT, Sanh et al. 2019, begins
with every other layer of its teacher.)

Its hidden units are those that pruning would leave. Its field vectors are the teacher's in the directions in which
these are longest, the same ones for users and items, and whatever multiplies vectors is turned with them: sums and
products of vectors then stay what they were, but for what the directions leave out.
"""

from typing import Final

import torch
from torch import Tensor, nn

from models.ranking.options import RankerName, RankerOptions
from models.ranking.pieces import Ranker

# models that are sums of these terms, over the same vectors; a Wide & Deep has crosses only where its teacher has them
TERMS: Final[dict[RankerName, set[str]]] = {
    "lr": {"linear"},
    "fm": {"linear", "pairs"},
    "wide_deep": {"linear", "perceptron"},
    "deepfm": {"linear", "pairs", "perceptron"},
}


def inherits(student: RankerOptions, teacher: RankerOptions) -> bool:
    """Whether all that the student has is a part of what the teacher has."""
    own, others = TERMS.get(student.model), TERMS.get(teacher.model)
    if own is None or others is None or not own <= others:
        return False
    if own == {"linear"}:
        return True
    return student.dim <= teacher.dim and ("perceptron" not in own or fits(student.hidden, teacher.hidden))


def fits(units: list[int], theirs: list[int]) -> bool:
    return len(units) == len(theirs) and all(few <= many for few, many in zip(units, theirs, strict=True))


@torch.no_grad()
def inherit(student: Ranker, teacher: Ranker) -> None:
    """Give an untrained student the teacher's weights.  teacher: with as many hidden units, see `inherits`."""
    pairs = [(student.user_module, teacher.user_module), (student.item_module, teacher.item_module)]
    vectors = torch.cat([table for _, side in pairs for table in side.embedding.parameters()])
    (width,) = {table.shape[1] for table in student.user_module.embedding.parameters()}
    _, ascending = torch.linalg.eigh(vectors.T @ vectors)
    directions = ascending.flip(1)[:, :width].T
    for own, other in pairs:
        _give(own.embedding, other.embedding, directions)
        _give_each(own.halves, other.halves, directions)
    _give_each(student.head_module.terms, teacher.head_module.terms, directions)
    student.head_module.cross_weight.copy_(teacher.head_module.cross_weight)
    student.head_module.bias.copy_(teacher.head_module.bias)


def _give_each(own: nn.ModuleList, others: nn.ModuleList, directions: Tensor) -> None:
    by_kind = {type(module): module for module in others}
    for module in own:
        if module.state_dict():  # a Wide & Deep without crosses has an empty term for them
            _give(module, by_kind[type(module)], directions)


def _give(own: nn.Module, other: nn.Module, directions: Tensor) -> None:
    """Arrays of another shape hold vectors, one or several, in their last dimension.  directions: [k, d]."""
    theirs = other.state_dict()
    for name, array in own.state_dict().items():
        given = theirs[name]
        if given.shape != array.shape:
            given = (given.unflatten(-1, (-1, directions.shape[1])) @ directions.T).flatten(-2)
        array.copy_(given)
