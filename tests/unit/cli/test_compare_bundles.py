"""The bundles of the compression report: which ones, and what is left when one of them fails."""

from math import isnan
from pathlib import Path

import pytest

from cli import compare_bundles
from cli.compare_bundles import CostError, Wanted, bundle_cost, cost_of_each, export_each, wanted_bundles
from cli.parity import ParityError
from export.compression.bundles import Cost
from export.gates import GateError
from models.contract.manifest import Gate

BOTH = wanted_bundles(("default", "edge"), ["pruned", "distilled"])


def test_the_distilled_models_are_exported_for_edge_where_there_are_any() -> None:
    default, edge, distilled = BOTH
    assert default == Wanted("default", "default")
    assert edge == Wanted("edge", "edge")
    assert distilled == Wanted("edge, distilled", "edge", "distilled")
    assert [one.variant for one in wanted_bundles(("default", "edge"), ["pruned"])] == ["default", "edge"]
    assert wanted_bundles((), ["distilled"]) == []


def exported(*failing: str) -> tuple[dict[str, Path], list[str]]:
    """Where the bundles of these variants are refused."""

    def export(one: Wanted) -> Path:
        if one.variant in failing:
            raise GateError([Gate(name="ranking overlap", value=0.7, limit=0.8, rule="at_least", passed=False)])
        return Path(one.variant)

    return export_each(BOTH, export)


def test_a_refused_bundle_leaves_the_others() -> None:
    paths, refused = exported("edge")
    assert paths == {"default": Path("default"), "edge, distilled": Path("edge, distilled")}
    assert refused == ["bundle edge is left out: the bundle is not published, these gates fail: ranking overlap"]


def test_without_the_first_there_is_nothing_to_compare_with() -> None:
    paths, [told] = exported("default")
    assert paths == {}
    assert told.startswith("bundles: the bundle default, which the others are compared with, fails: ")
    assert told.endswith("these gates fail: ranking overlap")


def test_a_service_that_answers_otherwise_is_told_too() -> None:
    def export(one: Wanted) -> Path:
        raise ParityError("3 of 200 lists differ\nmore")

    assert export_each(BOTH[:1], export)[1] == [
        "bundles: the bundle default, which the others are compared with, fails: 3 of 200 lists differ"
    ]


def test_an_unknown_cost_is_undefined_and_told() -> None:
    def cost(path: Path) -> Cost:
        if path.name == "b":
            raise CostError("there is no /proc")
        return Cost(3, 2, 1.0)

    costs, [told] = cost_of_each({"default": Path("a"), "edge": Path("b")}, cost)
    assert costs["default"] == Cost(3, 2, 1.0)
    assert all(isnan(value) for value in costs["edge"])
    assert told == "bundle edge: memory and time of a service process were not measured: there is no /proc"


@pytest.mark.parametrize("variant", ["edge", "edge, distilled"])
def test_any_but_the_first_may_fail(variant: str) -> None:
    paths, refused = exported(variant)
    assert len(paths) == 2
    assert len(refused) == 1


def test_a_process_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Starting Python alone takes longer."""
    monkeypatch.setattr(compare_bundles, "COST_TIMEOUT_S", 0.001)
    with pytest.raises(CostError, match=r"was not done after 0\.001 s"):
        bundle_cost(tmp_path, [])
