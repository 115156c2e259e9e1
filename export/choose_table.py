"""Which form of a table ships: the smallest one inside its limits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from export.gates import Lost, loss_gates
from export.profile import Limits
from models.contract.manifest import Gate

Form = TypeVar("Form")


@dataclass(frozen=True, slots=True)
class Chosen(Generic[Form]):
    """gates: those that the form has to pass; none for the last form.  why: for people."""

    form: Form
    gates: list[Gate]
    why: str


def smallest(
    part: str, forms: Iterable[tuple[str, Form]], last: tuple[str, Form], limits: Limits, lost: Callable[[Form], Lost]
) -> Chosen[Form]:
    """The first form that loses no more than the limits allow, or the last, which is what the others are compared with.

    forms: name and form, the smallest first.
    """
    misses: list[str] = []
    for name, form in forms:
        gates = loss_gates(name, part, lost(form), *limits)
        failed = [gate for gate in gates if not gate.passed]
        if not failed:
            return Chosen(form, gates, "; ".join([f"{name}: inside the quality gates", *misses]))
        misses += [f"{gate.name} {gate.value:.4g} against {gate.limit:.4g}" for gate in failed]
    name, form = last
    return Chosen(form, [], "; ".join([f"{name}: {'nothing smaller passes' if misses else 'as trained'}", *misses]))
