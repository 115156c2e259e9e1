"""Load on services that stand side by side, a round of each after the other, so that a ratio is of one round."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from bench.kit import k6
from bench.kit.figures import Measured
from bench.kit.load import measure
from bench.kit.result import Load
from bench.kit.session import MAIN, Session, capacity_rps
from bench.kit.shared import worker_memory
from bench.kit.side import Side
from bench.kit.standing import log_of, shortlist, side_of

CURVE_SHARES = (10, 30, 50, 70, 80, 90)  # % of one worker's throughput
POISSON_SHARE = 0.7
HISTORIES = {"10": (8, 15), "50": (45, 55), "200": (180, 220)}  # name: shortest and longest
WAITING = 64  # connections of the open loop
FULL = 64  # connections that keep the batches of two workers full, as they do those of one
US = "us"


def warm_up(session: Session) -> None:
    """As long as a round, and not counted: a service that has just begun maps its files page by page, and has kept no
    user vector yet. Its first round was a fifth slower than the others."""
    for side in session.sides.values():
        measure(side.plan(16, session.options.seconds), session.rest)


def throughput_round(session: Session) -> None:
    """Every service once: the closed loop at c=16, then the main ones with a single connection."""
    for side in session.sides.values():
        closed_loop(session, side)
    for name in (MAIN, f"{MAIN}-unbatched"):
        alone(session, session.side(name))


def closed_loop(session: Session, side: Side, name: str | None = None, connections: int = 16) -> None:
    """Requests a second, CPU time a request and whose it is, latency.  name: in figures, if not the side's."""
    name, measured = name or side.name, session.measured
    before = side.running.cpu()
    found = measure(side.plan(connections, session.options.seconds), session.rest)
    spent = side.running.cpu().since(before)
    counts = holds(found, name, measured)
    loop_share = spent.main_s / spent.service_s if spent.service_s else math.nan
    values = {
        "rps": found.rps,
        "cpu_us": found.cpu_us,
        "loop_us": found.cpu_us * loop_share,
        "redis_us": 1e6 * (found.redis_cpu_s or 0.0) / max(found.requests, 1),
        "p50_us": found.p50_us,
        "p99_us": found.p99_us,
    }
    for kind, value in values.items():
        measured.add(f"{kind}/{name}", "requests/s" if kind == "rps" else US, value if counts else math.nan)


def alone(session: Session, side: Side) -> None:
    """A single connection: the latency of an idle service."""
    found = measure(side.plan(1, session.options.seconds), session.rest)
    if holds(found, side.name, session.measured):
        session.measured.add(f"alone_p50_us/{side.name}", US, found.p50_us)
        session.measured.add(f"alone_cpu_us/{side.name}", US, found.cpu_us)


def histories_round(session: Session) -> None:
    """The main service, asked for users with short, middling and long histories."""
    for name, lengths in HISTORIES.items():
        side = replace(session.side(MAIN), bodies=session.bodies(MAIN, lengths))
        closed_loop(session, side, f"{MAIN}-history-{name}")


def poisson(session: Session, number: int) -> None:
    """Poisson arrivals at 70 % of what the closed loop gives at that moment: a machine that is slower now than it was
    would be measured near its capacity.  number: of the round, the seed of its arrivals."""
    side = session.side(MAIN)
    capacity = measure(side.plan(16, session.options.seconds), session.rest).rps
    rate = POISSON_SHARE * capacity
    plan = replace(side.plan(WAITING, 2 * session.options.seconds), rate=rate, seed=number)
    found = measure(plan, session.rest)
    if holds(found, side.name, session.measured):
        session.measured.add(f"poisson_p50_us/{side.name}", US, found.p50_us)
        session.measured.add(f"poisson_p99_us/{side.name}", US, found.p99_us)


def curve(session: Session) -> None:
    """Latency against load, by k6 at constant arrival rates."""
    side = session.side(MAIN)
    for share in CURVE_SHARES:
        rate = share / 100 * capacity_rps(session, MAIN)
        found = k6.measure(replace(side.plan(WAITING, 2 * session.options.seconds), rate=rate), session.rest)
        if holds(found, f"{side.name} at {share} %", session.measured):
            for name, value in (("p50", found.p50_us), ("p90", found.p90_us), ("p99", found.p99_us)):
                session.measured.add(f"curve_{name}_us/{side.name}-{share}", US, value)


def workers(session: Session, counts: Sequence[int]) -> None:
    """Throughput with one worker on its core, and with more on as many, all under the same load; the last ones share
    with the load client where there is no core left for it."""
    with ExitStack() as stack:
        sides = [session.side(MAIN)]
        cores = [*session.own, *session.rest]
        for count in counts:
            name = f"{MAIN}-{count}-workers"
            log = log_of(session, name)
            service = stack.enter_context(shortlist(session, MAIN, log, cores=cores[:count], workers=count))
            sides.append(side_of(session, name, MAIN, service))
        for _ in range(session.options.rounds):
            for side, name in zip(sides, [f"{MAIN}-1-worker", *(side.name for side in sides[1:])], strict=True):
                closed_loop(session, side, name, FULL)


def second_worker(session: Session, name: str) -> None:
    """Private bytes of a worker that is alone, and of each of two, which share what they map; all after requests."""
    for count in (1, 2):
        cores = [*session.own, *session.rest][:count]
        log = log_of(session, f"{name}-memory-{count}")
        with shortlist(session, name, log, cores=cores, workers=count) as service:
            side = side_of(session, name, name, service)
            measure(side.plan(16, session.options.seconds), session.rest)
            found = worker_memory(side.running)
            which = "first" if count == 1 else "second"
            session.measured.add(f"private_bytes/{name}-{which}", "bytes", found[-1])


def holds(found: Load, name: str, measured: Measured) -> bool:
    """Whether the run counts; what speaks against it is said. A degraded answer has done less than it should."""
    if not found.requests or found.errors > 0.001 * found.requests or found.degraded > 0.01 * found.requests:
        measured.missing.append(
            f"{name}: a round does not count, with {found.requests} answers, of which {found.degraded} left something "
            f"out, and {found.errors} errors"
        )
        return False
    if found.dropped:
        told = f"{found.dropped} requests were never sent, at {found.offered_rps or 0.0:.0f} a second"
        measured.missing.append(f"{name}: {told}")
    return True
