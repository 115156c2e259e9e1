"""DeepFM (Guo et al. 2017): a factorisation machine and a perceptron over the same field vectors, added."""

from models.ranking.deep import deep
from models.ranking.fm import pairs
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors, linear
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker, assemble


def deepfm(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    terms = [linear(inputs), pairs(inputs, options.dim), deep(inputs, options)]
    return assemble(inputs, *field_vectors(inputs, options.dim), terms)
