"""Whole bundles against each other: what they take, and the lists that they serve."""

from collections.abc import Callable, Mapping
from math import nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.compression.report import BundleRow, all_list_figures
from export.compression.requests import Asked, K
from export.offline import BundleSystem, open_models
from export.sizes import bundle_size
from models.contract.bundle import open_bundle
from models.data.dataset import Dataset
from models.targets import Mode


class Cost(NamedTuple):
    """Of a service process, see BundleRow."""

    private_bytes: float
    bundle_bytes: float
    request_us: float


UNKNOWN = Cost(nan, nan, nan)


def bundle_rows(
    dataset: Dataset,
    paths: Mapping[str, Path],
    costs: Mapping[str, Cost],
    asked: Asked,
    split_ms: int,
    seed: int,
    on_done: Callable[[str], None] = lambda variant: None,
) -> list[BundleRow]:
    """paths, costs: of bundles of one data set, by name; the first is the reference."""
    rows: list[BundleRow] = []
    reference: dict[Mode, NDArray[np.int64]] | None = None
    for variant, path in paths.items():
        lists = _served(dataset, path, asked, split_ms)
        reference = reference or lists
        figures = all_list_figures(lists, reference, asked, seed)
        rows.append(BundleRow(variant, bundle_size(path), *costs[variant], figures))
        on_done(variant)
    return rows


def _served(dataset: Dataset, path: Path, asked: Asked, split_ms: int) -> dict[Mode, NDArray[np.int64]]:
    """int64 [R, K] by mode."""
    system = BundleSystem(open_models(dataset, open_bundle(path)), split_ms, "ranking")
    return {mode: system(targets.users, mode, K) for mode, targets in asked.targets.items()}
