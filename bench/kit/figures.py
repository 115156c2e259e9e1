"""What was measured: each figure round by round, so that what was measured in the same round can be compared."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity.

    name: group and what, as in `rps/60k`.  unit: of the rounds.  rounds: a value for each round, in their order; NaN
    for one that does not count, so that the others stay beside those of their own round.
    """

    name: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def counted(self) -> tuple[float, ...]:
        return tuple(value for value in self.rounds if not math.isnan(value))

    @property
    def value(self) -> float:
        """The median of the rounds: one disturbed round does not move it far."""
        return float(np.median(self.counted))

    @property
    def low(self) -> float:
        return min(self.counted)

    @property
    def high(self) -> float:
        return max(self.counted)


@dataclass(slots=True)
class Measured:
    """Figures as they come in, by name.  failed: steps and services that could not do it.  missing: rounds that do not
    count, which a busy machine has. Both are sentences."""

    _rounds: dict[str, list[float]] = field(default_factory=dict)
    _units: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, value: float) -> None:
        """One round's value."""
        self._units[name] = unit
        self._rounds.setdefault(name, []).append(float(value))

    def figures(self) -> dict[str, Figure]:
        """Those of which at least one round counts."""
        found = (Figure(name, self._units[name], tuple(values)) for name, values in self._rounds.items())
        return {figure.name: figure for figure in found if figure.counted}


def quotients(over: Figure, under: Figure) -> tuple[float, ...]:
    """over / under for each round that counts for both; one of zero is left out."""
    pairs: Iterable[tuple[float, float]] = zip(over.rounds, under.rounds, strict=False)
    return tuple(a / b for a, b in pairs if b and not math.isnan(a + b))
