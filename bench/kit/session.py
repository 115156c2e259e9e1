"""What the steps of one run share."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from app.feature_store.errors import FeatureStoreError
from bench.kit.figures import Measured
from bench.kit.processes import CannotRun
from bench.kit.result import LoadFailed
from bench.kit.shared import SharedRedis
from bench.kit.side import Side
from bench.kit.worlds import World, request_bodies
from export.gates import GateError
from models.checkpoint import CheckpointError
from models.contract.manifest import BundleError
from models.contract.versions import bundle_path, read_active
from models.data.errors import DataError

NUM_BODIES = 4_000
SIZES = {"60k": 60_000, "1m": 1_000_000, "10m": 10_000_000}
MAIN = "60k"  # the catalogue that is measured in all detail
DEMO = "demo"
# What a step or a service may fail with: it is named in the results, and the rest is measured.
FAILURES = (
    CannotRun,
    LoadFailed,
    GateError,
    DataError,
    CheckpointError,
    BundleError,
    FeatureStoreError,
    subprocess.SubprocessError,
    OSError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a run measures.

    folder: worlds, logs and requests are kept there.  demo: a data folder of the demo with an active bundle, or None.
    sizes: names of catalogues, see SIZES.  rounds: of each load, `seconds` long.
    """

    folder: Path
    demo: Path | None = None
    sizes: tuple[str, ...] = ("60k", "1m")
    rounds: int = 4
    seconds: float = 2.0
    quick: bool = False

    @property
    def logs(self) -> Path:
        return self.folder / "logs"


@dataclass(slots=True)
class Session:
    """Filled as the run goes on.

    own, rest: the service's core; those of the load client, of Redis and of everything else.  worlds: by name, the
    demo among them.  sides: services that stand, by name.
    """

    options: Options
    own: list[int]
    rest: list[int]
    measured: Measured = field(default_factory=Measured)
    worlds: dict[str, World] = field(default_factory=dict)
    sides: dict[str, Side] = field(default_factory=dict)
    redis: SharedRedis | None = None

    def world(self, name: str) -> World:
        """Raises CannotRun for one that could not be made; why has been said."""
        if name not in self.worlds:
            raise CannotRun(f"there is no catalogue {name}")
        return self.worlds[name]

    def side(self, name: str) -> Side:
        """Raises CannotRun for a service that did not start; why has been said."""
        if name not in self.sides:
            raise CannotRun(f"the service {name} does not stand")
        return self.sides[name]

    def store(self) -> SharedRedis:
        """Raises CannotRun when it did not start; why has been said."""
        if self.redis is None:
            raise CannotRun("there is no Redis")
        return self.redis

    def bundle(self, name: str) -> Path:
        """Raises CannotRun without an active one."""
        bundles = self.world(name).data_dir / "bundles"
        version = read_active(bundles)
        if version is None:
            raise CannotRun(f"{bundles}: no bundle is active")
        return bundle_path(bundles, version)

    def bodies(self, name: str, history_length: tuple[int, int] | None = None) -> Path:
        """A file with requests of a world's users, a line each, and all users equally often.

        history_length: the shortest and the longest. Raises ValueError where no user has one.
        """
        mark = "" if history_length is None else "-{}-{}".format(*history_length)
        path = self.options.logs / f"requests-{name}{mark}.jsonl"
        lines = request_bodies(self.world(name), NUM_BODIES, 0, history_length)
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path


def capacity_rps(session: Session, name: str) -> float:
    """Of one worker in the closed loop, the median of the rounds so far. Raises CannotRun before there is one."""
    figure = session.measured.figures().get(f"rps/{name}")
    if figure is None:
        raise CannotRun(f"the throughput of {name} is not known")
    return figure.value
