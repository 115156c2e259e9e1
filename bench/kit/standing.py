"""Which services stand during a run, and the steps that put them there."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.kit import services, shared
from bench.kit.services import Service
from bench.kit.session import DEMO, FAILURES, MAIN, Session
from bench.kit.side import Side

USERS_PER_S = re.compile(r"([\d,]+) users a second")
CANDIDATES = (100, 500)  # beside the default of 200
LOADS = 3  # timed, of the main catalogue
ALL_OF_IT = {"deadline_ms": "null", "redis_read_timeout_ms": 1_000, "max_concurrency": 1_024}

Begin = Callable[[Path], AbstractContextManager[Service]]  # from the log file that it is to write


def start_redis(session: Session, stack: ExitStack) -> None:
    session.redis = stack.enter_context(shared.redis_server(session.options.logs, session.rest))


def load_users(session: Session, name: str) -> None:
    """`shortlist load`, which says how many users a second it brought; the main catalogue's several times, each under
    a prefix of its own, since users that are there are not loaded again."""
    for number in range(LOADS if name == MAIN else 1):
        log = session.options.logs / f"load-{name}.log"
        told = shared.load_users(session.world(name).data_dir, session.store().url, prefix_of(name, number), log)
        speed = USERS_PER_S.search(told)
        if name == MAIN and speed is not None:
            session.measured.add(f"load_users_per_s/{name}", "users/s", float(speed[1].replace(",", "")))


def prefix_of(name: str, number: int = 0) -> str:
    return f"bench-{name}" + (f"-{number}" if number else "")


def start_all(session: Session, stack: ExitStack) -> None:
    """Every service that shares the core, in turn idle; one that does not start is named and missed."""
    own = session.own
    _keep(session, stack, "noop", MAIN, lambda log: services.noop(log, cores=own))
    for name in session.worlds:
        _keep(session, stack, name, name, partial(shortlist, session, name))
    _keep(session, stack, f"{MAIN}-unbatched", MAIN, partial(shortlist, session, MAIN, max_batch=1))
    if not session.options.quick:
        without = f"{MAIN}-no-vectors-kept"  # whatever the traffic: the requests of a run go round the same users
        _keep(session, stack, without, MAIN, partial(shortlist, session, MAIN, user_vectors_mb=0))
        for count in CANDIDATES:
            _keep(
                session, stack, f"{MAIN}-{count}-candidates", MAIN, partial(shortlist, session, MAIN, candidates=count)
            )
    for name in [name for name in session.worlds if name != DEMO]:
        _keep(session, stack, f"naive-{name}", name, partial(services.naive, session.world(name).data_dir, cores=own))
    if DEMO in session.worlds:
        _keep(session, stack, "implicit", DEMO, partial(services.implicit, session.world(DEMO).data_dir, cores=own))


def shortlist(
    session: Session, world: str, log: Path, *, cores: list[int] | None = None, workers: int = 1, **more: object
) -> AbstractContextManager[Service]:
    """`shortlist serve` on a world's bundle, with the users that were loaded for it.

    Each has a data folder of its own beside its log, since two services cannot share one. No deadline: an answer that
    left something out would count as a quick one.
    """
    own = log.with_suffix("")
    shared.link_bundle(session.world(world).data_dir, own)
    settings = {"redis_url": session.store().url, "redis_prefix": prefix_of(world), **ALL_OF_IT, **more}
    return services.shortlist(own, log, cores=cores or session.own, workers=workers, settings=settings)


def side_of(session: Session, name: str, world: str, service: Service) -> Side:
    """name: in figures. What the shared Redis spends meanwhile is counted beside it: one service is asked at a time."""
    running = service.running if service.running.others else replace(service.running, others=(session.store().pid,))
    return Side(name, service.port, session.bodies(world), running)


def log_of(session: Session, name: str) -> Path:
    return session.options.logs / f"{name}.log"


def _keep(session: Session, stack: ExitStack, name: str, world: str, begin: Begin) -> None:
    try:
        service = stack.enter_context(begin(log_of(session, name)))
        session.sides[name] = side_of(session, name, world, service)
    except FAILURES as error:
        session.measured.failed.append(f"{name}: {error}")
