"""What is to be reached (ratios.toml), as plain numbers: each the quotient of two figures of one run, or a figure."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.kit.figures import Figure, quotients

Better = Literal["higher", "lower"]
Standing = Literal["aim", "floor", "below", "not measured"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """name: in the results' "ratios".  over, under: names of figures; without `under` the figure itself.

    floor, aim: what is to be reached at least, and what is wanted.  scale: of a figure by itself, from its unit.
    """

    name: str
    text: str
    over: str
    under: str | None
    floor: float
    aim: float
    better: Better
    scale: float = 1.0

    def of(self, figures: Mapping[str, Figure]) -> Figure | None:
        """The ratio round by round; None where one of its figures was not measured."""
        over = figures.get(self.over)
        if over is None:
            return None
        if self.under is None:
            return Figure(self.name, "", tuple(self.scale * value for value in over.counted))
        under = figures.get(self.under)
        rounds = () if under is None else quotients(over, under)
        return Figure(self.name, "", rounds) if rounds else None

    def standing(self, value: float) -> Standing:
        sign = 1 if self.better == "higher" else -1
        if sign * value >= sign * self.aim:
            return "aim"
        return "floor" if sign * value >= sign * self.floor else "below"


RATIOS = tuple(
    Ratio(**{"under": None, **row})
    for row in tomllib.loads((Path(__file__).parent / "ratios.toml").read_text("utf-8"))["ratio"]
)
