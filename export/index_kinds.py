"""Kinds of FAISS index that are worth measuring, by the catalogue's size. What was tried and is not here:
docs/decisions/25-index.md."""

import math
from dataclasses import dataclass
from typing import Any

import faiss

MIN_PQ_ITEMS = 5_000  # below, nothing beats the flat scan, and 16 centroids a code lack training points
FLAT_LIMIT = 200_000
LISTS_FROM = 100_000  # below, a scan of all codes is as fast as one of some lists
FACTORS = (2, 3, 4, 6, 8, 12, 16)  # of the wanted number: how many of the best codes are scored again
STEP = 1.06  # between two numbers of probed lists: what the choice may give away
# What makes a search better and slower, by FAISS's name for it. The first that a kind has is bisected.
KNOBS = ("nprobe", "efSearch", "k_factor_rf")


@dataclass(frozen=True, slots=True)
class Candidate:
    """kind: FAISS factory string.  parameters: of FAISS's ParameterSpace.

    tuned: the parameter of which the least value that finds enough is looked for; None where all are given.
    """

    kind: str
    parameters: tuple[tuple[str, int], ...] = ()
    tuned: str | None = None

    def at(self, value: int) -> "Candidate":
        """The same with a value for the tuned parameter."""
        assert self.tuned is not None
        return Candidate(self.kind, (*self.parameters, (self.tuned, value)))


def default_candidates(num_items: int, dim: int) -> list[Candidate]:
    """What is worth measuring for a catalogue of this size."""
    found = []
    if num_items < FLAT_LIMIT:
        found += [Candidate("Flat"), Candidate("SQfp16")]
        if num_items >= MIN_PQ_ITEMS:
            found.append(Candidate(f"RR{dim},PQ{dim}x4fs,Refine(SQfp16)", tuned="k_factor_rf"))
    if num_items >= LISTS_FROM:
        lists = _lists(num_items)
        kind = f"RR{dim},IVF{lists},PQ{dim}x4fsr,Refine(SQfp16)"
        found += [Candidate(kind, (("k_factor_rf", factor),), "nprobe") for factor in FACTORS[:4]]
        found.append(Candidate(f"IVF{lists},SQ8", tuned="nprobe"))
    return found


def small_candidates(num_items: int) -> list[Candidate]:
    """A byte a number where that finds enough; with lists where a scan of all would take too long."""
    if num_items < FLAT_LIMIT:
        return [Candidate("SQ8"), Candidate("SQfp16"), Candidate("Flat")]
    return [Candidate(f"IVF{_lists(num_items)},SQ8", tuned="nprobe")]


def _lists(num_items: int) -> int:
    """About 4 sqrt(N), as FAISS advises."""
    return int(2 ** round(math.log2(4 * num_items**0.5)))


def candidates_of(kind: str, parameters: dict[str, int], dim: int) -> list[Candidate]:
    """A kind of the user's own with these parameters; what they leave open is tuned.

    Raises ValueError where FAISS does not know the kind, or the kind has no such parameter.
    """
    index = new_index(kind, dim)
    for name, value in parameters.items():
        if not _takes(index, name, value):
            raise ValueError(
                f'index parameter {name} = {value} does not fit "{kind}": FAISS has no such parameter there'
            )
    given = tuple(parameters.items())
    free = [name for name in KNOBS if name not in parameters and _takes(index, name, 2)]
    if not free:
        return [Candidate(kind, given)]
    if len(free) == 1 or free[-1] != "k_factor_rf":
        return [Candidate(kind, given, free[0])]
    return [Candidate(kind, (*given, ("k_factor_rf", factor)), free[0]) for factor in FACTORS[:4]]


def new_index(kind: str, dim: int) -> Any:
    """An empty index for inner products. Raises ValueError where FAISS does not know the kind."""
    try:
        return faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f'index kind "{kind}" is none that FAISS makes of {dim} dimensions: it takes factory strings such as '
            f'"Flat", "IVF4096,SQ8" or "RR{dim},PQ{dim}x4fs,Refine(SQfp16)"'
        ) from error


def _takes(index: Any, name: str, value: int) -> bool:
    try:
        faiss.ParameterSpace().set_index_parameter(index, name, value)
    except RuntimeError:
        return False
    return True


def values_of(index: Any, name: str) -> list[int]:
    """What is tried for a tuned parameter, ascending."""
    if name == "k_factor_rf":
        return list(FACTORS)
    # more than half of the lists is slower than no lists at all
    most = max(faiss.extract_index_ivf(index).nlist // 2, 1) if name == "nprobe" else 4_096
    values, value = [], 1.0
    while value < most:
        values.append(math.ceil(value))
        value *= STEP
    return sorted({*values, most})
