"""What `shortlist doctor` finds out about what is to be served: settings, port, workers, the active bundle."""

import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.settings import PREFIX, Settings
from app.workers import live_workers
from cli.doctor_check import Check
from cli.doctor_machine import available_cores

OLD_DAYS = 30
DAY_MS = 86_400_000


def read_settings(data_dir: Path, environment: Mapping[str, str]) -> tuple[Settings | None, list[Check]]:
    """None when the service would refuse them. No value is repeated: it may be a key."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    checks = [
        Check("settings", "warning", f"{name} is unknown and has no effect", _meant(name, known))
        for name in sorted(environment)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]
    try:
        settings = Settings(data_dir=data_dir)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"])
            advice = f"correct {PREFIX}{str(problem['loc'][0]).upper()}" if name else "see docs/operations.md"
            checks.append(Check("settings", "problem", f"{name}: {problem['msg']}" if name else problem["msg"], advice))
        return None, checks
    return settings, [*checks, Check("settings", "ok", "valid"), *_exposure(settings)]


def _meant(name: str, known: set[str]) -> str:
    close = get_close_matches(name.upper(), sorted(known), n=1)
    return f"did you mean {close[0]}?" if close else "docs/operations.md lists the settings"


def _exposure(settings: Settings) -> list[Check]:
    cores, checks = available_cores(), []
    if settings.workers > cores:
        told = f"{settings.workers} workers on {cores} cores"
        checks.append(Check("workers", "warning", told, f"one per core is the measured best: {PREFIX}WORKERS={cores}"))
    if settings.insecure and not settings.api_keys:
        told = f"no API key, and {PREFIX}INSECURE is set"
        checks.append(Check("access", "warning", told, "see that something else guards the port; `shortlist key`"))
    return checks


def service_checks(settings: Settings) -> list[Check]:
    """The port, and what runs on this data directory."""
    workers = live_workers(settings.run_dir)
    checks = [_port(settings, running=bool(workers))]
    for worker in workers:
        name = f"worker {worker.worker}"
        if worker.error is None:
            checks.append(Check(name, "ok", f"pid {worker.pid} serves {worker.serving}"))
        else:
            advice = f"it goes on with {worker.serving}; export or activate another bundle"
            checks.append(Check(name, "problem", worker.error, advice))
    return checks


def _port(settings: Settings, *, running: bool) -> Check:
    told = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
            probe.listen(1)
    except OSError as error:
        if running:
            return Check("port", "ok", f"{told} is taken; the service of this data directory runs")
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the name is not known"
        return Check("port", "problem", f"{told}: {reason}", f"choose another: {PREFIX}PORT, or serve --port")
    return Check("port", "ok", f"{told} is free")


def bundle_checks(bundles_dir: Path, settings: Settings, now: datetime) -> list[Check]:
    """The active bundle, every byte, and requests replayed on it as a worker does before it is ready."""
    from app.opening import open_engine
    from app.warmup import warm_up
    from models.contract.bundle import BundleError
    from models.contract.versions import bundle_path, read_active

    try:
        version = read_active(bundles_dir)
        if version is None:
            return [Check("bundle", "warning", "none is active", "shortlist demo, or prepare, train and export")]
        started = time.perf_counter()
        engine = open_engine(bundle_path(bundles_dir, version), settings.filter_cache_mb << 20)
        warm_up(engine, settings)
    except (BundleError, OSError) as error:
        return [Check("bundle", "problem", str(error), _instead(bundles_dir))]
    manifest = engine.bundle.manifest
    told = (
        f"{version}: {engine.bundle.num_items} items, whole, answers; checked in {time.perf_counter() - started:.1f} s"
    )
    return [Check("bundle", "ok", told), gates(manifest.gates), age(manifest, now)]


def _instead(bundles_dir: Path) -> str:
    from models.contract.bundle import BundleError
    from models.contract.versions import previous_active

    try:
        previous = previous_active(bundles_dir)
    except (BundleError, OSError):  # the pointer itself is damaged
        previous = None
    return f"go back to {previous} with POST /bundles/rollback, or shortlist export" if previous else "shortlist export"


def gates(found: Any) -> Check:
    """found: list[Gate]."""
    failed = [f"{gate.name} {gate.value:g} ({gate.rule} {gate.limit:g})" for gate in found if not gate.passed]
    if failed:
        return Check("bundle gates", "problem", f"failed: {', '.join(failed)}", "do not serve it: shortlist export")
    return Check("bundle gates", "ok", f"{len(found)} passed")


def age(manifest: Any, now: datetime) -> Check:
    """Of the data's end on the service's clock: a model ages from there, not from its export."""
    ended = (now.timestamp() * 1000 - manifest.as_of_ms - manifest.clock_shift_ms) / DAY_MS
    made = (now - datetime.fromisoformat(manifest.created).astimezone(UTC)).total_seconds() / 86_400
    told = f"made {max(made, 0):.0f} days ago, of data up to {max(ended, 0):.0f} days ago"
    if ended > OLD_DAYS:
        advice = "shortlist events archive, train, export; for old data export --shift-to-now"
        return Check("bundle age", "warning", told, advice)
    return Check("bundle age", "ok", told)
