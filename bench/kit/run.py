"""A whole run of the sizing kit, as steps with how long each takes: worlds, start-up, services side by side, parts."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.kit import scripts, serving, standing
from bench.kit.machine import describe, load_average
from bench.kit.processes import CannotRun
from bench.kit.results import Results
from bench.kit.session import DEMO, FAILURES, SIZES, Options, Session
from bench.kit.shared import cores_of_machine
from bench.kit.worlds import build_world, demo_world

BUILD_S = {"60k": 60.0, "1m": 260.0, "10m": 3_000.0}
DEMO_TIMEOUT_S = 1_800.0

OnStep = Callable[[str, float, float], None]  # what begins, seconds' worth done, of how many in all


@dataclass(frozen=True, slots=True)
class Step:
    """seconds: about how long it takes, for the time left."""

    text: str
    seconds: float
    do: Callable[[], None]


def measure(options: Options, on_step: OnStep = lambda text, done, total: None) -> Results:
    """One run. What fails is a sentence in the results, and the rest goes on. Raises CannotRun on a machine where
    nothing can be measured."""
    own, rest = cores_of_machine()
    options.logs.mkdir(parents=True, exist_ok=True)
    session = Session(options, own, rest)
    about = describe() | {"kind": "quick" if options.quick else "whole"}
    done = 0.0
    with ExitStack() as stack:
        steps = list(_steps(session, stack))
        total = sum(step.seconds for step in steps)
        for step in steps:
            on_step(step.text, done, total)
            try:
                step.do()
            except FAILURES as error:
                session.measured.failed.append(f"{step.text}: {error}")
            done += step.seconds
    on_step("done", total, total)
    measured, about = session.measured, about | {"load_average_after": load_average()}
    return Results(about, measured.figures(), tuple(measured.missing), tuple(measured.failed))


def _steps(session: Session, stack: ExitStack) -> Iterator[Step]:
    options = session.options
    quick, turn = options.quick, options.seconds + 1.5  # of one load on one service, with its process
    for name in options.sizes:
        made = (options.folder / name).exists()
        yield Step(f"catalogue of {name} items", 3.0 if made else BUILD_S[name], partial(_build, session, name))
    if options.demo is not None:
        made = (options.demo / "bundles").exists()
        yield Step("the demo", 3.0 if made else 170.0, partial(_open_demo, session, options.demo))
    yield Step("a worker at rest", 2.0 * options.rounds, partial(_at_rest, session))
    for name in options.sizes:
        yield Step(f"opening the bundle of {name} items", 10.0, partial(_opening, session, name))
    running = stack.enter_context(ExitStack())
    yield Step("Redis", 1.0, partial(standing.start_redis, session, running))
    for name in [*options.sizes, *([DEMO] if options.demo is not None else [])]:
        yield Step(f"loading the users of {name}", 6.0, partial(standing.load_users, session, name))
    if "1m" in options.sizes:  # before another service maps the same files, whose pages would not be the first one's
        yield Step("a second worker's memory", 30.0, partial(serving.second_worker, session, "1m"))
    yield Step("starting services", 45.0, partial(standing.start_all, session, running))
    yield Step("warming up", (4 if quick else 10) * turn, partial(serving.warm_up, session))
    for number in range(options.rounds):
        text = f"throughput, round {number + 1} of {options.rounds}"
        yield Step(text, (6 if quick else 12) * turn, partial(serving.throughput_round, session))
    for number in range(options.rounds):
        text = f"Poisson arrivals, round {number + 1} of {options.rounds}"
        yield Step(text, 3 * turn, partial(serving.poisson, session, number))
    if not quick:
        yield Step("latency against load, by k6", 6 * (2 * turn + 2), partial(serving.curve, session))
        for _ in range(3):
            yield Step("lengths of histories", 3 * turn, partial(serving.histories_round, session))
    counts = sorted({2, len(session.own) + len(session.rest)})
    yield Step("more workers", options.rounds * 2 * turn + 8, partial(serving.workers, session, counts))
    yield Step("stopping services", 5.0, running.close)
    for name in options.sizes:
        yield Step(f"index, ranker and stages at {name}", 20.0, partial(_parts, session, name))
    if not quick:
        yield Step("training", 60.0, partial(_training, session))


def _build(session: Session, name: str) -> None:
    session.worlds[name] = build_world(session.options.folder / name, SIZES[name])


def _open_demo(session: Session, folder: Path) -> None:
    """`shortlist demo` makes it, and has nothing to do where it was made."""
    log, command = session.options.logs / "demo.log", [sys.executable, "-m", "cli.main", "demo", "--no-serve"]
    with log.open("wb") as out:
        made = subprocess.run(
            [*command, "--data-dir", str(folder)],
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=DEMO_TIMEOUT_S,
            check=False,
        )
    if made.returncode:
        raise CannotRun(f"`shortlist demo` failed, see {log}")
    session.worlds[DEMO] = demo_world(folder)


def _at_rest(session: Session) -> None:
    """One round is not counted: it compiles what was never imported, and brings the files into the page cache."""
    scripts.run("bench.kit.startup", "rest", cores=session.own)
    for _ in range(session.options.rounds):
        found = scripts.run("bench.kit.startup", "rest", cores=session.own)
        session.measured.add("import_s/worker", "s", found["import_s"])
        session.measured.add("rss_bytes/rest", "bytes", found["rss_bytes"])


def _opening(session: Session, name: str) -> None:
    for _ in range(3):
        found = scripts.run("bench.kit.startup", "bundle", session.bundle(name), cores=session.own)
        session.measured.add(f"load_s/{name}", "s", found["load_s"])


def _parts(session: Session, name: str) -> None:
    found = scripts.run("bench.kit.parts", name, session.world(name).data_dir, cores=session.own)
    scripts.add_rounds(session.measured, found)


def _training(session: Session) -> None:
    """On a small world: the lists that a ranker learns from take minutes to make for 20,000 users."""
    world = build_world(session.options.folder / "learning", 20_000, num_users=2_000)
    cores = [*session.own, *session.rest]
    found = scripts.run("bench.kit.training", world.data_dir, "--threads", len(cores), cores=cores, threads=len(cores))
    session.measured.add("sequences_per_s/sasrec", "sequences/s", found["sequences_per_s"])
    session.measured.add("rows_per_s/deepfm", "rows/s", found["rows_per_s"])
