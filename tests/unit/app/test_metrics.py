"""Metrics of several workers as one page."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics


def test_the_page_of_one_worker_holds_the_figures_of_all(tmp_path: Path) -> None:
    """Each series once, the lines of a metric together, as Prometheus demands; files of workers of an earlier run,
    when there were more of them, are not read."""
    first, second, stale = Metrics(0), Metrics(1), Metrics(2)
    first.request("/recommend", 200, 0.002)
    second.request("/recommend", 200, 0.004)
    second.request("/events", 503, 0.001)
    second.event("accepted", 3)
    first.write(tmp_path)
    second.write(tmp_path)
    stale.write(tmp_path)
    page = first.merged(tmp_path, workers=2).decode()
    families = list(text_string_to_metric_families(page))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    requests = next(family for family in families if family.name == "shortlist_requests")
    assert len(requests.samples) == 3
    counted = {(s.labels["worker"], s.labels["route"], s.labels["status"]): s.value for s in requests.samples}
    assert counted == {("0", "/recommend", "200"): 1, ("1", "/recommend", "200"): 1, ("1", "/events", "503"): 1}
    assert 'shortlist_events_total{status="accepted",worker="1"} 3.0' in page
    assert 'worker="2"' not in page


def test_only_the_present_bundle_is_shown(tmp_path: Path) -> None:
    metrics = Metrics(0)
    metrics.bundle("a")
    metrics.bundle("b")
    text = metrics.merged(tmp_path, workers=1).decode()
    assert 'version="b"' in text
    assert 'version="a"' not in text
