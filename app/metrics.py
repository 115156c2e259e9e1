"""Prometheus metrics. Each worker counts for itself, under its own `worker` label, and writes what it counted to a
file; whichever worker is asked for /metrics answers with its own figures and the other workers' files."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
WRITE_EVERY_S = 1.0
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """The counters of one worker, made anew at its start; so a restart is a counter reset, as Prometheus expects."""

    def __init__(self, worker: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a start time per series would double them
        self.worker = str(worker)
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests by route and status.", "route", "status")
        self._latency = self._histogram("request_seconds", "From the head of a request to its answer, s.", "route")
        self._stages = self._histogram("stage_seconds", "Stages of the flow, per batch of requests, s.", "stage")
        self._degraded = self._counter("degraded", "Answers without this part.", "part")
        self._served = self._counter("recommendations", "Answers by the stage that gave the order.", "served_by")
        self._events = self._counter("events", "Events by what became of them.", "status")
        self._bundle = Gauge(
            "shortlist_bundle_info", "1 for the bundle being served.", ["worker", "version"], registry=self.registry
        )
        self._in_work = Gauge("shortlist_requests_in_work", "Requests in work.", ["worker"], registry=self.registry)
        self.in_work = self._in_work.labels(self.worker)
        # Looking labels up costs more than counting, so the series of every request are kept once they are there.
        self._of_request: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._of_stage: dict[str, Histogram] = {}
        self._of_server: dict[str, Counter] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        found = self._of_request.get((route, status))
        if found is None:
            found = self._requests.labels(self.worker, route, str(status)), self._latency.labels(self.worker, route)
            self._of_request[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        found = self._of_stage.get(stage)
        if found is None:
            found = self._of_stage[stage] = self._stages.labels(self.worker, stage)
        found.observe(seconds)

    def recommendation(self, served_by: str, degraded: Iterable[str]) -> None:
        found = self._of_server.get(served_by)
        if found is None:
            found = self._of_server[served_by] = self._served.labels(self.worker, served_by)
        found.inc()
        for part in degraded:
            self._degraded.labels(self.worker, part).inc()

    def event(self, status: str, count: int) -> None:
        self._events.labels(self.worker, status).inc(count)

    def bundle(self, version: str) -> None:
        self._bundle.clear()
        self._bundle.labels(self.worker, version).set(1)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def write(self, run_dir: Path) -> None:
        """Leave this worker's figures for the others, in one step."""
        path = _path(run_dir, self.worker)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(self.text())
        partial.replace(path)

    def merged(self, run_dir: Path, workers: int) -> bytes:
        """The figures of all workers; those of the others are at most a second old."""
        texts = [self.text()]
        for other in range(workers):
            if str(other) != self.worker and (path := _path(run_dir, str(other))).exists():
                texts.append(path.read_bytes())
        return _merge(texts)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"shortlist_{name}", text, ["worker", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"shortlist_{name}", text, ["worker", *labels], buckets=SECONDS, registry=self.registry)


def _path(run_dir: Path, worker: str) -> Path:
    return run_dir / f"metrics-{worker}.prom"


def _merge(texts: Iterable[bytes]) -> bytes:
    """One exposition out of several: the lines of one metric must stand together, under one HELP and TYPE."""
    heads: dict[bytes, list[bytes]] = {}
    lines: dict[bytes, list[bytes]] = defaultdict(list)
    for text in texts:
        name = b""
        for line in text.splitlines():
            if line.startswith(b"# "):
                name = line.split(b" ", 3)[2]
                head = heads.setdefault(name, [])
                if line not in head:
                    head.append(line)
            elif line:
                lines[name].append(line)
    return b"".join(line + b"\n" for name, head in heads.items() for line in (*head, *lines[name]))
