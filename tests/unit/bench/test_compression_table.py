"""The table of compressed rankers: means over seeds, and what was lost against the trained one."""

from bench.compression.__main__ import table
from bench.compression.measure import Figures, mean


def test_figures_are_means_and_changes_are_against_the_trained_ranker() -> None:
    trained = mean([Figures(1000, 0.8, 0.2, 0.25), Figures(1000, 0.9, 0.1, 0.35)])
    small = mean([Figures(240, 0.84, 0.16, 0.25), Figures(250, 0.843, 0.16, 0.25)])
    assert table({"trained": trained, "small": small}).splitlines() == [
        "| ranker | parameters | AUC | of the trained | log-loss | NDCG@10 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| trained | 1,000 | 0.8500 | 100.00% (+0.0000) | 0.1500 | 0.3000 |",
        "| small | 245 | 0.8415 | 99.00% (-0.0085) | 0.1600 | 0.2500 |",
    ]
