"""The requests that precision is judged with have the candidates that the service would rank."""

import pytest

from export.quality import ranked_requests, requests
from models.contract.features import cross_names
from models.contract.user_inputs import FEATURES
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.offline import candidates
from models.options import SasRecOptions, TrainSection
from models.retrieval.snapshot import snapshot
from models.retrieval.train import build_model
from tests.planted import write_planted


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("requests")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


def test_each_request_has_its_users_candidates_with_seen_items_and_without(dataset: Dataset) -> None:
    until_ms = dataset.splits.valid_start_ms
    options = TrainSection(retrieval=SasRecOptions(dim=16, layers=1))
    retrieval = snapshot(dataset, build_model(dataset, options, until_ms), until_ms)
    asked = requests(dataset, retrieval)
    found = ranked_requests(dataset, asked, len(cross_names(dataset.schema)), FEATURES, 0)
    expected = [
        candidates(retrieval, who, vector, include_seen)
        for who, vector in zip(asked.moments, asked.vectors, strict=True)
        for include_seen in (True, False)
    ]
    assert [sorted(one.items.tolist()) for one in found.found] == [sorted(one.items.tolist()) for one in expected]
    assert any(len(who.state.seen_hashes) for who in asked.moments)
