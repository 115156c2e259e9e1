"""What was measured: each figure round by round, so that what was measured in the same round can be compared."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity.

    name: group and what, as in `rps/60k`.  unit: of the rounds.  rounds: a value for each round, in their order.
    """

    name: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of the rounds: one disturbed round does not move it far."""
        return float(np.median(self.rounds))

    @property
    def low(self) -> float:
        return min(self.rounds)

    @property
    def high(self) -> float:
        return max(self.rounds)


@dataclass(slots=True)
class Measured:
    """Figures as they come in, by name; what could not be measured, and why."""

    _rounds: dict[str, list[float]] = field(default_factory=dict)
    _units: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, value: float) -> None:
        """One round's value."""
        self._units[name] = unit
        self._rounds.setdefault(name, []).append(float(value))

    def figures(self) -> dict[str, Figure]:
        return {name: Figure(name, self._units[name], tuple(values)) for name, values in self._rounds.items()}


def quotients(over: Figure, under: Figure) -> tuple[float, ...]:
    """over / under for each round that both have; a round of zero is left out."""
    pairs: Iterable[tuple[float, float]] = zip(over.rounds, under.rounds, strict=False)
    return tuple(a / b for a, b in pairs if b)
