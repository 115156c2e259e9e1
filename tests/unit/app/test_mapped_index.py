"""The index is read as a view of its file, which all workers share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from app.engine import Engine
from app.opening import MAPPED


def test_the_index_of_a_bundle_is_not_copied_into_the_process(engine: Engine) -> None:
    assert not engine.index.codes.is_owned


@pytest.mark.parametrize(
    ("kind", "bulk"),
    [
        ("SQfp16", lambda index: index.codes),
        ("RR8,PQ8x4fs,Refine(SQfp16)", lambda index: faiss.downcast_index(index.refine_index).codes),
        ("RR8,IVF4,PQ8x4fsr,Refine(SQfp16)", lambda index: faiss.downcast_index(index.refine_index).codes),
    ],
)
def test_of_every_kind_that_export_chooses_the_vectors_are_mapped(
    kind: str, bulk: Callable[[Any], Any], tmp_path: Path
) -> None:
    """And the answers are those of the index in memory."""
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    index = faiss.index_factory(8, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    read = faiss.read_index(str(tmp_path / "index.faiss"), MAPPED)
    assert not bulk(read).is_owned
    for ours, theirs in zip(read.search(vectors[:20], 30), index.search(vectors[:20], 30), strict=True):
        assert ours.tobytes() == theirs.tobytes()
