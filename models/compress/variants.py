"""What `shortlist compress` makes, by name."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from models.options import TrainSection

Way = Literal["kept", "pruned", "magnitude", "distilled", "distilled-pruned", "small"]


class Variant(NamedTuple):
    """What is done to the retrieval model and to the ranker. small: the student's shape without a teacher, neither its
    weights nor its answers, which tells what the teacher was good for."""

    retrieval: Way
    ranking: Way


VARIANTS = {
    "pruned": Variant("kept", "pruned"),
    "magnitude": Variant("kept", "magnitude"),
    "distilled": Variant("kept", "distilled"),
    "distilled-pruned": Variant("kept", "distilled-pruned"),
    "small": Variant("kept", "small"),
    "retrieval-pruned": Variant("pruned", "kept"),
    "retrieval-magnitude": Variant("magnitude", "kept"),
    "retrieval-distilled": Variant("distilled", "kept"),
    "retrieval-small": Variant("small", "kept"),
    "both-distilled": Variant("distilled", "distilled"),
}
OF_RANKER = [name for name, variant in VARIANTS.items() if variant.retrieval == "kept"]
OF_RETRIEVAL = [name for name, variant in VARIANTS.items() if variant.ranking == "kept"]
WITHOUT_UNITS = ("lr", "fm", "ffm", "gmf")  # rankers that have no layers


def chosen(names: Sequence[str], options: TrainSection) -> list[str]:
    """The variants asked for; without a name, those of the ranker that its model allows, or those of retrieval
    where no ranker learned from candidates. Raises ValueError for a name that is none, or one that the trained models
    have nothing for."""
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"--only {name}: is not one of {', '.join(VARIANTS)}")
        _require(name, options)
    if names:
        return list(dict.fromkeys(names))
    if options.ranker.model == "none" or options.ranker.learn_from == "interactions":
        return OF_RETRIEVAL
    layered = ("pruned", "magnitude", "distilled-pruned")
    return [name for name in OF_RANKER if options.ranker.model not in WITHOUT_UNITS or name not in layered]


def _require(name: str, options: TrainSection) -> None:
    ranking, model = VARIANTS[name].ranking, options.ranker.model
    if ranking == "kept":
        return
    if model == "none":
        raise ValueError(f'--only {name}: [train.ranker] model = "none", and there is no ranker to make smaller')
    if options.ranker.learn_from == "interactions":
        raise ValueError(
            f'--only {name}: [train.ranker] learn_from = "interactions" has no candidate lists, which a ranker is made '
            "smaller on"
        )
    if model in WITHOUT_UNITS and ranking in ("pruned", "magnitude", "distilled-pruned"):
        raise ValueError(
            f"--only {name}: [train.ranker] model = {model!r} has no hidden units for [compress] prune_units and no "
            "layers for prune_weights; it can be distilled"
        )
