"""The bundles of the compression report: exported for the test window, measured and thrown away."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from export.compression.bundles import Cost
    from export.compression.report import BundleRow
    from export.compression.requests import Asked
    from models.contract.manifest import Profile
    from models.data.dataset import Dataset
    from models.trained import Trained

STUDENT = "distilled"  # the compressed models that are exported for edge too
USERS = 64
COST_TIMEOUT_S = 600  # 16 rounds of 64 requests take seconds, and a large bundle is read and hashed first


class Wanted(NamedTuple):
    """compressed: name of the models; None for the trained ones."""

    variant: str
    profile: "Profile"
    compressed: str | None = None


class CostError(Exception):
    """What a bundle costs could not be measured; says why."""


def wanted_bundles(profiles: "Sequence[Profile]", compressed: Iterable[str]) -> list[Wanted]:
    """The first is what the others are compared with: of the trained models.  compressed: names of those there are."""
    wanted = [Wanted(profile, profile) for profile in profiles]
    if "edge" in profiles and STUDENT in compressed:
        wanted.append(Wanted(f"edge, {STUDENT}", "edge", STUDENT))
    return wanted


def compare_bundles(
    dataset: "Dataset",
    data_dir: Path,
    workshop: Path,
    wanted: Sequence[Wanted],
    asked: "Asked",
    trained: "Trained",
    done: Callable[[str], None],
) -> "tuple[list[BundleRow], list[str]]":
    """-> rows, and a sentence for everything that could not be measured.  workshop: for the bundles."""
    from cli.export import export_bundle
    from export.compression.bundles import bundle_rows

    def export(one: Wanted) -> Path:
        folder = workshop / one.variant.replace(", ", "-")
        path = export_bundle(dataset, data_dir, folder, for_test=True, profile=one.profile, compressed=one.compressed)
        done(f"bundle {one.variant}")
        return path

    paths, refused = export_each(wanted, export)
    states = user_states(dataset, trained.until_ms)
    costs, unknown = cost_of_each(paths, lambda path: bundle_cost(path, states))
    rows = bundle_rows(dataset, paths, costs, asked, trained.until_ms, trained.options.seed, done)
    return rows, [*refused, *unknown]


def export_each(wanted: Sequence[Wanted], export: Callable[[Wanted], Path]) -> tuple[dict[str, Path], list[str]]:
    """Paths by variant, and a sentence for each that no gate lets through. Without the first there is nothing to
    compare with: then there are no paths."""
    from cli.parity import ParityError
    from export.gates import GateError

    paths: dict[str, Path] = {}
    refused: list[str] = []
    for one in wanted:
        try:
            paths[one.variant] = export(one)
        except (GateError, ParityError) as error:
            why = str(error).splitlines()[0]  # then comes the table of all gates
            if not paths:
                return {}, [f"bundles: the bundle {one.variant}, which the others are compared with, fails: {why}"]
            refused.append(f"bundle {one.variant} is left out: {why}")
    return paths, refused


def cost_of_each(paths: Mapping[str, Path], cost: "Callable[[Path], Cost]") -> "tuple[dict[str, Cost], list[str]]":
    """Costs by variant, undefined where they could not be measured, with a sentence each."""
    from export.compression.bundles import UNKNOWN

    costs: dict[str, Cost] = {}
    unknown: list[str] = []
    for variant, path in paths.items():
        try:
            costs[variant] = cost(path)
        except CostError as error:
            costs[variant] = UNKNOWN
            unknown.append(f"bundle {variant}: memory and time of a service process were not measured: {error}")
    return costs, unknown


def user_states(dataset: "Dataset", as_of_ms: int) -> list[bytes]:
    """Packed states of known users, spread evenly over all of them."""
    import numpy as np

    from models.contract.state import pack
    from models.states import UserStates

    known = np.unique(dataset.interactions.before(as_of_ms).user_index)
    users = known[np.unique(np.linspace(0, len(known) - 1, min(USERS, len(known))).astype(np.int64))].tolist()
    states = UserStates(dataset, 0)
    return [pack(states.at(user, as_of_ms)) for user in users]


def bundle_cost(bundle: Path, states: Sequence[bytes]) -> "Cost":
    """Measured in a process of its own (cli/bundle_cost.py), with one thread, as a worker of the service runs.

    states: packed, of those who ask.  Raises CostError.
    """
    import os
    import subprocess
    import sys

    import orjson

    from export.compression.bundles import Cost

    command = [sys.executable, "-m", "cli.bundle_cost", str(bundle)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    given = orjson.dumps([state.hex() for state in states])
    try:
        answer = subprocess.run(
            command, env=environment, input=given, capture_output=True, check=False, timeout=COST_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise CostError(f"the process that measures was not done after {COST_TIMEOUT_S} s") from error
    if answer.returncode:
        told = answer.stderr.decode(errors="replace").strip().splitlines()
        raise CostError(told[-1] if told else f"the process that measures ended with {answer.returncode}")
    return Cost(**orjson.loads(answer.stdout))
