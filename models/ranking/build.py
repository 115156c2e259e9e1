"""The ranking models by their name in `[train.ranker]`."""

from collections.abc import Callable

from models.ranking.deepfm import deepfm
from models.ranking.ffm import ffm
from models.ranking.fm import fm
from models.ranking.fnn import fnn
from models.ranking.inputs import RankerInputs
from models.ranking.lr import lr
from models.ranking.ncf import gmf, mlp, neumf
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.ranking.pnn import ipnn, opnn, pnn
from models.ranking.transformer import transformer
from models.ranking.wide_deep import wide_deep

MODELS: dict[str, Callable[[RankerInputs, RankerOptions], Ranker]] = {
    "lr": lr,
    "fm": fm,
    "ffm": ffm,
    "fnn": fnn,
    "ipnn": ipnn,
    "opnn": opnn,
    "pnn": pnn,
    "wide_deep": wide_deep,
    "deepfm": deepfm,
    "gmf": gmf,
    "mlp": mlp,
    "neumf": neumf,
    "transformer": transformer,
}


def build(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    """An untrained model. Raises ValueError for features that it needs and are not there, or rows too large."""
    if options.model not in MODELS:
        raise ValueError(f"[train.ranker] model = {options.model!r} is not built here; one of {', '.join(MODELS)}")
    return MODELS[options.model](inputs, options)
