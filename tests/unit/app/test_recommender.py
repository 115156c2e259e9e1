"""The flow, on a tiny bundle whose structure is planted: what a list holds, and what it never holds."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.answer import top_k
from app.call import Call, read_user, resolve_items
from app.engine import Engine
from app.errors import InvalidRequest
from app.filters import allowed_items
from app.flow import Flow
from app.opening import open_engine
from app.ranking import best_first, finite
from app.recommender import Recommender
from app.settings import Settings
from app.wire import Recommendation, RecommendRequest
from export.write import write_bundle
from models.contract.bundle import open_bundle
from models.contract.candidates import Candidates
from models.contract.history import EMPTY
from models.contract.state import Limits, UserState
from models.contract.state_parts import apply, empty
from tests.tiny_bundle import tiny_category, tiny_content, tiny_item_ids
from tests.unit.app.conftest import NOW_MS

IDS = tiny_item_ids()
LIMITS = Limits(512, 4096)


def bought(*item_ids: str) -> UserState:
    """A user who bought these, one a minute, the last a minute ago."""
    state = empty()
    for age, item_id in zip(range(len(item_ids), 0, -1), item_ids, strict=True):
        time_ms = NOW_MS - age * 60_000
        state = apply(state, time_ms=time_ms, item_id=item_id, event_type="purchase", seen=True, limits=LIMITS)
    return state


def run(engine: Engine, state: UserState | None = None, **request: Any) -> Recommendation:
    call = Call(RecommendRequest.model_validate(request), engine, NOW_MS, 0.0, state=state)
    resolve_items(call)
    return Flow(Settings()).run([call])[0]


def ids(found: Recommendation) -> list[str]:
    return [item["item_id"] for item in found["items"]]


async def test_a_cold_user_gets_the_popular_items_in_their_order(recommender: Recommender) -> None:
    for request in (RecommendRequest(k=4), RecommendRequest(k=4, user_id="nobody")):
        found = (await recommender.recommend(request)).decoded()
        assert ids(found) == ["i0", "i1", "i2", "i3"]  # planted: the oldest items sell best
        assert (found["served_by"], found["degraded"], found["warnings"]) == ("popular", [], [])
        assert [item["score"] for item in found["items"]] == [1.0, 0.5, 0.333333, 0.25]


def test_a_history_in_one_category_brings_that_category(engine: Engine) -> None:
    for state, request in ((bought("i1", "i5", "i9"), {}), (None, {"history": ["i1", "i5", "i9"]})):
        found = run(engine, state, k=10, **request)
        assert found["served_by"] == "ranking"
        assert {tiny_category(item_id) for item_id in ids(found)} == {"dairy"}
        assert not {"i1", "i5", "i9"} & set(ids(found))


def test_the_request_history_is_newer_than_the_stored_one(engine: Engine) -> None:
    wine = run(engine, bought("i1", "i5", "i9"), k=5, history=["i3", "i7", "i11"])
    assert tiny_category(ids(wine)[0]) == "wine"
    call = Call(RecommendRequest(history=["i3"]), engine, NOW_MS, 0.0, state=bought("i1", "i5"))
    resolve_items(call)
    read_user(call)
    assert [engine.bundle.items.item_id(item) for item in call.history.items.tolist()] == ["i1", "i5", "i3"]


def test_seen_items_come_back_only_when_asked_for(engine: Engine) -> None:
    state = bought("i1", "i5", "i9")
    again = run(engine, state, k=120, include_seen=True)
    assert len(again["items"]) == 120
    assert {item["item_id"] for item in again["items"] if item["source"] == "own_frequent"} == {"i1", "i5", "i9"}
    fresh = run(engine, state, k=120)
    assert set(ids(fresh)) == set(IDS) - {"i1", "i5", "i9"}
    assert fresh["warnings"] == ["the list has 117 of 120 items: the bundle has no more after include_seen being false"]


@pytest.mark.parametrize(("candidates", "k", "expected"), [(200, 5, 119), (60, 5, 60), (60, 20, 70), (10, 5, 55)])
def test_as_many_candidates_as_the_setting_says_or_50_more_than_are_asked_for(
    engine: Engine, candidates: int, k: int, expected: int
) -> None:
    """119: all but the one that was seen."""
    call = Call(RecommendRequest(k=k), engine, NOW_MS, 0.0, state=bought("i1"))
    resolve_items(call)
    [found] = Flow(Settings(candidates=candidates)).run([call])
    assert call.candidates is not None
    assert (len(call.candidates), len(found["items"]), found["served_by"]) == (expected, k, "ranking")


def test_a_filter_that_few_items_satisfy_still_fills_the_list(engine: Engine) -> None:
    rare = {"all": [{"field": "category", "eq": "wine"}, {"field": "aisle", "in": [11, 13]}]}
    expected = [n for n in range(120) if n % 4 == 3 and n % 5 in (0, 2)]
    found = run(engine, bought("i1", "i5"), k=len(expected), filter=rare)
    assert sorted(ids(found)) == sorted(IDS[n] for n in expected)
    assert found["warnings"] == []


def test_a_list_is_empty_only_where_the_callers_own_rules_leave_nothing_and_says_so(engine: Engine) -> None:
    found = run(engine, bought("i1"), k=5, filter={"field": "brand", "eq": "none such"})
    assert (found["items"], found["served_by"]) == ([], "ranking")
    assert found["warnings"] == [
        "the list has 0 of 5 items: the bundle has no more after the filter, include_seen being false"
    ]
    everything = run(engine, k=5, exclude=IDS)
    assert everything["items"] == []
    assert everything["warnings"] == ["the list has 0 of 5 items: the bundle has no more after exclude"]


def test_unknown_items_are_skipped_with_a_warning(engine: Engine) -> None:
    found = run(engine, k=3, history=["gone", "i1"], exclude=["a", "b", "c", "d"])
    assert found["warnings"] == [
        "history: 1 items are unknown to the bundle and were skipped: gone",
        "exclude: 4 items are unknown to the bundle and were skipped: a, b, c",
    ]
    assert found["served_by"] == "ranking"
    assert run(engine, k=3, history=["gone"])["served_by"] == "popular"


def test_fields_are_copied_as_they_stand_in_the_bundle(engine: Engine) -> None:
    found = orjson.loads(orjson.dumps(run(engine, k=8, fields=["title", "price"])))
    assert found["items"][0]["fields"] == {"title": "Bakery no. 0", "price": 1}
    assert found["items"][7]["fields"] == {"title": None, "price": 8}
    assert "fields" not in run(engine, k=1)["items"][0]


def test_a_reason_names_the_most_similar_item_of_the_history_or_nothing(engine: Engine) -> None:
    bundle, seen = engine.bundle, ["i1", "i5", "i3"]
    history = [int(index) for index in bundle.items.item_indices(seen)]
    rows = zip(bundle.neighbours.tolist(), bundle.neighbours_similarity.tolist(), strict=True)
    tables = [dict(zip(near, similarity, strict=True)) for near, similarity in rows]
    for item in run(engine, bought(*seen), k=30)["items"]:
        row = int(bundle.items.item_indices([item["item_id"]])[0])
        similar = {other: max(tables[row].get(other, 0.0), tables[other].get(row, 0.0)) for other in history}
        known = {other: value for other, value in similar.items() if value >= 0.05}
        if known:
            best = bundle.items.item_id(max(known, key=lambda other: known[other]))
            assert item["reason"] == {"kind": "because_of", "item_id": best}
        else:
            assert item["reason"] is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"fields": ["colour"]}, "fields"),
        ({"context": {"weather": "rain"}}, "context"),
        ({"filter": {"field": "colour", "eq": 1}}, "filter"),
    ],
)
async def test_names_that_the_bundle_does_not_know_are_refused_with_those_it_does(
    recommender: Recommender, request_: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest, match="known: ") as caught:
        await recommender.recommend(RecommendRequest.model_validate(request_))
    assert [detail["field"] for detail in caught.value.details] == [field]


def test_scores_that_are_not_finite_sink_and_equal_ones_keep_their_order() -> None:
    scores = np.array([np.nan, 1.0, np.inf, 2.0, 1.0, -np.inf], np.float32)
    assert best_first(scores, np.ones(6, np.bool_), 6).tolist() == [3, 1, 4, 0, 2, 5]
    assert best_first(scores, np.arange(6) != 1, 3).tolist() == [3, 4, 0]
    assert finite(scores).tolist() == [1.0, 1.0, 1.0, 2.0, 1.0, 1.0]
    assert finite(np.full(2, np.nan, np.float32)).tolist() == [0.0, 0.0]
    assert best_first(np.empty(0, np.float32), np.empty(0, np.bool_), 5).tolist() == []


def test_a_ranker_that_gives_no_finite_score_is_left_out_and_named(engine: Engine) -> None:
    assert engine.ranking is not None
    ranking = dataclasses.replace(engine.ranking, item_part=engine.ranking.item_part * np.float32("nan"))
    broken = dataclasses.replace(engine, ranking=ranking)
    found = run(broken, bought("i1"), k=5)
    assert (found["served_by"], found["degraded"]) == ("retrieval", ["ranking"])
    assert ids(found) == ids(run(broken, bought("i1"), k=5))


def test_context_and_user_features_reach_the_ranker(engine: Engine) -> None:
    plain, mobile = (run(engine, bought("i1"), k=20, context=c) for c in ({}, {"device": "mobile"}))
    assert [item["score"] for item in plain["items"]] != [item["score"] for item in mobile["items"]]


def test_a_batch_gives_every_caller_the_answer_it_would_get_alone(engine: Engine) -> None:
    flow = Flow(Settings())
    requests: list[tuple[UserState | None, dict[str, Any]]] = [
        (None, {}),
        (bought("i1", "i5"), {"k": 7}),
        (bought("i2"), {"filter": {"field": "brand", "eq": "own"}}),
        (None, {"history": ["i3", "i4"], "include_seen": True}),
    ]

    def calls() -> list[Call]:
        made = [Call(RecommendRequest.model_validate(r), engine, NOW_MS, 0.0, state=state) for state, r in requests]
        for call in made:
            resolve_items(call)
        return made

    together = flow.run(calls())
    alone = [flow.run([call])[0] for call in calls()]
    assert [ids(found) for found in together] == [ids(found) for found in alone]
    for one, other in zip(together, alone, strict=True):
        scores = [[item["score"] for item in found["items"]] for found in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-6)


async def test_recommendation_ids_are_unique_and_sort_by_time(engine: Engine) -> None:
    clock = iter(range(NOW_MS, NOW_MS + 1000))
    recommender = Recommender(lambda: engine, None, Settings(deadline_ms=None), now_ms=lambda: next(clock))
    found = [(await recommender.recommend(RecommendRequest(k=1))).decoded()["recommendation_id"] for _ in range(50)]
    recommender.close()
    assert found == sorted(set(found))
    assert {len(one) for one in found} == {26}


KNOWN = st.sampled_from([*IDS, "unknown-1", "unknown-2"])
FILTERS = st.none() | st.sampled_from(
    [
        {"field": "category", "eq": "fruit"},
        {"field": "category", "in": ["fruit", "wine"]},
        {
            "all": [
                {"field": "organic", "eq": True},
                {"any": [{"field": "aisle", "eq": 13}, {"field": "brand", "eq": "own"}]},
            ]
        },
        {"field": "aisle", "eq": -1},
    ]
)


def _satisfies(item_id: str, parts: dict[str, Any] | None) -> bool:
    n = IDS.index(item_id)
    values = {
        "category": ("bakery", "dairy", "fruit", "wine")[n % 4],
        "brand": (None, "own", "national")[n % 3],
        "organic": n % 2 == 1,
        "aisle": 11 + n % 5,
    }
    if parts is None:
        return True
    if "all" in parts:
        return all(_satisfies(item_id, part) for part in parts["all"])
    if "any" in parts:
        return any(_satisfies(item_id, part) for part in parts["any"])
    return values[parts["field"]] in parts.get("in", [parts.get("eq")])


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seen=st.lists(st.sampled_from(IDS), max_size=30),
    history=st.lists(KNOWN, max_size=10),
    exclude=st.lists(KNOWN, max_size=60),
    k=st.integers(1, 500),
    include_seen=st.booleans(),
    filter_=FILTERS,
)
def test_invariants_of_every_list(
    engine: Engine,
    seen: list[str],
    history: list[str],
    exclude: list[str],
    k: int,
    include_seen: bool,
    filter_: dict[str, Any] | None,
) -> None:
    """No duplicates, at most k, sorted, nothing excluded, nothing seen, nothing outside the filter; as long as the
    catalogue allows, and a warning where it is shorter than k."""
    state = bought(*seen) if seen else None
    found = run(engine, state, k=k, history=history, exclude=exclude, include_seen=include_seen, filter=filter_)
    listed, scores = ids(found), [item["score"] for item in found["items"]]
    gone = set(exclude) | (set() if include_seen else set(seen) | set(history))
    possible = {item_id for item_id in IDS if item_id not in gone and _satisfies(item_id, filter_)}
    assert len(set(listed)) == len(listed) == min(k, len(possible))
    assert set(listed) <= possible
    assert scores == sorted(scores, reverse=True)
    assert [item["rank"] for item in found["items"]] == list(range(1, len(listed) + 1))
    assert any("the list has" in warning for warning in found["warnings"]) == (len(listed) < k)
    assert found["degraded"] == []


async def test_many_at_once_each_get_their_own(recommender: Recommender) -> None:
    requests = [RecommendRequest(k=3, history=[IDS[n]]) for n in range(40)]
    together = await asyncio.gather(*(recommender.recommend(request) for request in requests))
    for request, found in zip(requests, together, strict=True):
        assert ids(found.decoded()) == ids((await recommender.recommend(request)).decoded())


def test_what_is_not_allowed_is_dropped_from_the_final_list_whatever_brought_it(engine: Engine) -> None:
    """As if an index or a source had ignored the filter."""
    call = Call(RecommendRequest(k=3), engine, NOW_MS, 0.0)
    call.allowed = allowed_items(engine.marks, None, [np.arange(0, 120, 2)])
    call.scores = np.array([9, 8, 7, 6, 5], np.float32)
    leaked = Candidates(np.array([0, 1, 2, 3, 5]), call.scores, np.zeros(5, np.uint8))
    chosen, scores = top_k(call, leaked)
    assert (chosen.items.tolist(), scores.tolist()) == ([1, 3, 5], [8.0, 6.0, 5.0])


def test_a_bundle_without_a_ranker_serves_the_retrieval_order(tmp_path: Path) -> None:
    """By the product of the vectors, best first; nothing is degraded, and no ranking file is in the bundle."""
    (tmp_path / "items").mkdir()
    content = dataclasses.replace(tiny_content(tmp_path / "items"), ranking=None)
    path = write_bundle(tmp_path / "bundles", content)
    assert not (path / "ranking").exists()
    assert open_bundle(path).manifest.ranking is None
    engine = open_engine(path, 1 << 20)
    found = run(engine, history=["i3", "i5"], k=20)
    assert (found["served_by"], found["degraded"], found["warnings"]) == ("retrieval", [], [])
    listed = engine.bundle.items.item_indices(ids(found))
    known = engine.bundle.items.item_indices(["i3", "i5"])
    vector = engine.user_vectors([EMPTY.extended(known.tolist(), NOW_MS)])[0]
    assert len(listed) == 20
    assert (np.diff(engine.bundle.item_vectors[listed] @ vector) <= 1e-6).all()
