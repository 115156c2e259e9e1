"""The HTTP interface in one process: every route, hostile inputs, keys and request ids."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.auth import ApiKey, hash_key
from app.feature_store.keys import Keys, partition
from app.main import create_app
from app.service import Service
from app.settings import Settings
from export.write import write_bundle
from models.contract.state import pack, unpack
from models.contract.versions import write_active
from tests.tiny_bundle import CREATED, tiny_content
from tests.unit.app.conftest import running

Started = tuple[Service, httpx.AsyncClient]


def problem(response: httpx.Response) -> tuple[int, str, list[str]]:
    """Status, code and the fields named; the body has exactly the documented form."""
    error = response.json()["error"]
    assert sorted(error) == ["code", "details", "message", "request_id"]
    assert error["request_id"] == response.headers["x-request-id"]
    return response.status_code, error["code"], [detail["field"] for detail in error["details"]]


async def stored(client: httpx.AsyncClient, user_id: str) -> int:
    return len((await client.get(f"/users/{user_id}")).json()["events"])


async def test_an_event_moves_the_list_and_the_user_can_be_read_and_erased(service: Started) -> None:
    _, client = service
    before = (await client.post("/recommend", json={"user_id": "u1", "k": 5})).json()
    assert before["served_by"] == "popular"
    events = [{"user_id": "u1", "item_id": item, "event_type": "purchase"} for item in ("i1", "i5")]
    answer = (await client.post("/events", json={"events": events})).json()
    assert (answer["accepted"], answer["duplicates"], answer["refused"], answer["durability"]) == (2, 0, 0, "always")
    after = (await client.post("/recommend", json={"user_id": "u1", "k": 5, "fields": ["category"]})).json()
    assert after["served_by"] == "ranking"
    assert [item["fields"]["category"] for item in after["items"]] == ["dairy"] * 5
    got = (await client.get("/recommend", params={"user_id": "u1", "k": 5, "fields": ["category"]})).json()
    assert got["items"] == after["items"]
    kept = (await client.get("/users/u1")).json()
    assert sorted(entry["item_id"] for entry in kept["history"]) == ["i1", "i5"]
    assert (await client.delete("/users/u1")).json() == {
        "user_id": "u1", "states": 1, "event_ids": 0, "stream_events": 2,
    }  # fmt: skip
    assert (await client.post("/recommend", json={"user_id": "u1", "k": 5})).json()["served_by"] == "popular"
    assert await stored(client, "u1") == 0


async def test_seen_items_are_named_as_far_as_a_name_is_known(service: Started) -> None:
    """The state keeps hashes: the bundle, the history and the stream name them, and the rest is counted."""
    running_service, client = service
    now_ms = running_service.now_ms()
    events = [
        {"user_id": "u5", "item_id": item, "event_type": "purchase", "time": now_ms - 5000 + 1000 * n}
        for n, item in enumerate(("gone with its history", "i5", "not in any bundle"))
    ]
    await client.post("/events", json={"events": events})
    keys = Keys(running_service.settings.redis_prefix)
    url = running_service.settings.redis_url
    assert url is not None
    with redis.Redis.from_url(url, protocol=2) as store:
        store.delete(keys.events(partition("u5")))  # as after an archive run
        state = unpack(store.get(keys.state("u5")))
        assert state is not None
        last = replace(
            state,
            history_times_ms=state.history_times_ms[-1:],
            history_hashes=state.history_hashes[-1:],
            history_types=state.history_types[-1:],
            history_id_lengths=state.history_id_lengths[-1:],
            history_id_data=b"not in any bundle",
        )
        store.set(keys.state("u5"), pack(last))
    seen = (await client.get("/users/u5")).json()["seen"]
    assert seen["items"] == [
        {"item_id": "i5", "time_ms": (now_ms - 4000) // 1000 * 1000},
        {"item_id": "not in any bundle", "time_ms": (now_ms - 3000) // 1000 * 1000},
    ]
    assert (seen["count"], seen["unnamed"], seen["evicted"]) == (3, 1, False)


async def test_an_event_keeps_the_clock_shift_of_the_bundle_that_took_it(settings: Settings, tmp_path: Path) -> None:
    """Training reads it back, so that a live time becomes a time of the data."""
    items = tmp_path / "items"
    items.mkdir()
    shifted = write_bundle(settings.bundles_dir, replace(tiny_content(items), clock_shift_ms=86_400_000), CREATED)
    write_active(settings.bundles_dir, shifted.name)
    async with running(settings) as (_, client):
        await client.post("/events", json={"events": [{"user_id": "u1", "item_id": "i1", "event_type": "view"}]})
        [event] = (await client.get("/users/u1")).json()["events"]
    assert event["clock_shift_ms"] == 86_400_000


async def test_each_event_of_a_batch_is_judged_by_itself(service: Started) -> None:
    running_service, client = service
    now_ms = running_service.now_ms()
    events: list[dict[str, Any]] = [
        {"user_id": "u2", "item_id": "i1", "event_type": "view", "event_id": "e1", "time": now_ms},
        {"user_id": "u2", "item_id": "i1", "event_type": "view", "time": now_ms + 301_000},
        {"user_id": "u2", "item_id": "i1", "event_type": "stolen"},
        {"user_id": "u2", "item_id": "not in any bundle", "event_type": "click"},
    ]
    answer = (await client.post("/events", json={"events": events})).json()
    assert [(r["index"], r["status"], r["code"]) for r in answer["results"]] == [
        (0, "accepted", None), (1, "refused", "in_future"), (2, "refused", "unknown_event_type"), (3, "accepted", None),
    ]  # fmt: skip
    assert [len(r["warnings"]) for r in answer["results"]] == [0, 0, 0, 1]
    again = (await client.post("/events", json={"events": events[:1]})).json()
    assert (again["duplicates"], again["results"][0]["status"]) == (1, "duplicate")
    assert await stored(client, "u2") == 2


@pytest.mark.parametrize(
    ("body", "status", "code", "fields"),
    [
        (b"", 400, "malformed_json", []),
        (b'{"k": 1', 400, "malformed_json", []),
        (b'{"k": 1} x', 400, "malformed_json", []),
        (b'\xff{"k": 1}', 400, "malformed_json", []),
        (b'{"user_id": "\\ud800"}', 400, "malformed_json", []),
        (b"[" * 10_000, 400, "malformed_json", []),
        (b"[]", 422, "invalid_request", ["body"]),
        (b'{"k": 0}', 422, "invalid_request", ["k"]),
        (b'{"k": 501}', 422, "invalid_request", ["k"]),
        (b'{"k": "5"}', 422, "invalid_request", ["k"]),
        (b'{"k": 5.5}', 422, "invalid_request", ["k"]),
        (b'{"k": true}', 422, "invalid_request", ["k"]),
        (b'{"k": NaN}', 422, "invalid_request", ["k"]),
        (b'{"deadline_ms": Infinity}', 422, "invalid_request", ["deadline_ms"]),
        (b'{"filter": {"field": "aisle", "eq": NaN}}', 422, "invalid_request", ["filter.eq"]),
        (b'{"context": {"device": NaN}}', 422, "invalid_request", ["context.device"]),
        (b'{"user": "u", "count": 3}', 422, "invalid_request", ["user", "count"]),
        (b'{"user_id": ""}', 422, "invalid_request", ["user_id"]),
        (b'{"user_id": 7}', 422, "invalid_request", ["user_id"]),
        (b'{"user_id": "' + b"u" * 129 + b'"}', 422, "invalid_request", ["user_id"]),
        (b'{"history": ["i1", "' + b"i" * 129 + b'"]}', 422, "invalid_request", ["history[1]"]),
        (b'{"exclude": "i1"}', 422, "invalid_request", ["exclude"]),
        (b'{"fields": ["colour"]}', 422, "invalid_request", ["fields"]),
        (b'{"filter": {"all": [{"field": "brand", "near": 1}]}}', 422, "invalid_request", ["filter.all[0]"]),
        (b'{"include_seen": 1}', 422, "invalid_request", ["include_seen"]),
        (b'{"filter": {"field": "brand", "values": ["own"]}}', 422, "invalid_request", ["filter"]),
        (b'{"context": {"": "mobile"}}', 422, "invalid_request", ["context"]),
    ],
)
async def test_hostile_bodies_get_a_4xx_that_names_the_field(
    service: Started, body: bytes, status: int, code: str, fields: list[str]
) -> None:
    response = await service[1].post("/recommend", content=body)
    assert problem(response) == (status, code, fields)


async def test_the_limits_themselves_are_accepted(service: Started) -> None:
    body = {"user_id": "ü" * 128, "k": 500, "history": ["i1"] * 512, "context": {"device": "d" * 128}}
    response = await service[1].post("/recommend", json=body)
    assert (response.status_code, len(response.json()["items"])) == (200, 119)


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        (b'{"events": []}', 422, ["events"]),
        (b'{"events": [{"user_id": "u3", "item_id": "i1", "event_type": "view"}', 400, []),
        (b'{"events": [{"user_id": "u3", "item_id": "i1"}]}', 422, ["events[0].event_type"]),
        (
            b'{"events": [{"user_id": "u3", "item_id": "i1", "event_type": "view", "value": NaN}]}',
            422,
            ["events[0].value"],
        ),
        (b'{"events": [{"user_id": "u3", "item_id": "i1", "event_type": "view", "when": 1}]}', 422, ["events[0].when"]),
        (
            b'{"events": [{"user_id": "u3", "item_id": "i1", "event_type": "view", "value": "3.99"}]}',
            422,
            ["events[0].value"],
        ),
    ],
)
async def test_a_batch_that_breaks_the_schema_is_refused_whole_and_nothing_is_stored(
    service: Started, body: bytes, status: int, fields: list[str]
) -> None:
    good = b'{"user_id": "u3", "item_id": "i1", "event_type": "view"}, '
    for sent, index in ((body, 0), (body.replace(b"[{", b"[" + good + b"{"), 1)):
        found = problem(await service[1].post("/events", content=sent))
        assert (found[0], found[2]) == (status, [field.replace("[0]", f"[{index}]") for field in fields])
    assert await stored(service[1], "u3") == 0


async def test_bodies_over_the_limit_are_refused_announced_or_streamed(service: Started) -> None:
    _, client = service

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10 * 16):
            yield b" " * 65_536

    for path, limit in (("/recommend", 64 * 1024), ("/events", 1024 * 1024)):
        fits = await client.post(path, content=b" " * limit)
        assert fits.status_code == 400
        for content in (b" " * (limit + 1), endless()):
            assert problem(await client.post(path, content=content)) == (413, "body_too_large", [])


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "fields"),
    [
        ("GET", "/recommend?k=0", 422, "invalid_request", ["k"]),
        ("GET", "/recommend?k=501", 422, "invalid_request", ["k"]),
        ("GET", "/recommend?k=nan", 422, "invalid_request", ["k"]),
        ("GET", f"/recommend?user_id={'u' * 129}", 422, "invalid_request", ["user_id"]),
        ("GET", "/recommend?fields=colour", 422, "invalid_request", ["fields"]),
        ("GET", "/recommend?history=i1", 422, "invalid_request", ["history"]),
        ("GET", "/items/i1/similar?fields=", 422, "invalid_request", ["fields[0]"]),
        ("GET", "/items/nothing/similar", 404, "not_found", []),
        ("GET", f"/items/{'i' * 129}/similar", 422, "invalid_request", ["item_id"]),
        ("GET", "/items/i1/similar?k=0", 422, "invalid_request", ["k"]),
        ("GET", f"/users/{'u' * 129}", 422, "invalid_request", ["user_id"]),
        ("POST", "/bundles/20200101T000000Z-000000/activate", 404, "not_found", []),
        ("POST", "/bundles/rollback", 404, "not_found", []),
        ("GET", "/nothing", 404, "not_found", []),
        ("GET", "/bundles/", 404, "not_found", []),
        ("DELETE", "/recommend", 405, "method_not_allowed", []),
    ],
)
async def test_other_routes_refuse_in_the_same_form(
    service: Started, method: str, path: str, status: int, code: str, fields: list[str]
) -> None:
    assert problem(await service[1].request(method, path)) == (status, code, fields)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/recommend", "GET, HEAD, POST"),
        ("/events", "POST"),
        ("/items/i1/similar", "GET, HEAD"),
        ("/users/u1", "DELETE, GET, HEAD"),
        ("/bundles", "GET, HEAD"),
        ("/bundles/rollback", "POST"),
        ("/bundles/20200101T000000Z-000000/activate", "POST"),
        ("/livez", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_refused_method_is_told_which_are_taken(service: Started, path: str, allowed: str) -> None:
    """Asked for with each of them, the route says something else."""
    _, client = service
    for method in ("OPTIONS", "PUT", "PATCH"):
        refused = await client.request(method, path)
        assert problem(refused) == (405, "method_not_allowed", [])
        assert refused.headers["allow"] == allowed
    for method in ("GET", "HEAD", "POST", "DELETE"):
        answer = await client.request(method, path)
        assert (answer.status_code != 405) == (method in allowed.split(", ")), method


async def test_head_has_the_head_of_get(service: Started) -> None:
    """Down to the length; test_connections.py sees that there is no body."""
    _, client = service
    for path in ("/livez", "/items/i1/similar?k=3", "/bundles", "/nothing", "/users/u9", "/recommend?k=0"):
        got, asked = await client.get(path), await client.head(path)
        assert asked.status_code == got.status_code
        for name in ("content-length", "content-type"):
            assert asked.headers[name] == got.headers[name]


async def test_an_id_in_a_url_that_is_not_utf_8_is_refused_by_name(service: Started) -> None:
    """It would be the user U+FFFD, who may well exist."""
    _, client = service
    user = "\N{REPLACEMENT CHARACTER}"
    await client.post("/events", json={"events": [{"user_id": user, "item_id": "i1", "event_type": "view"}]})
    for method, path, field in (
        ("GET", "/users/%ff", "user_id"),
        ("DELETE", "/users/a%C3", "user_id"),
        ("DELETE", "/users/%ed%a0%80", "user_id"),
        ("GET", "/items/%ff%zz/similar", "item_id"),
        ("POST", "/bundles/%ff/activate", "version"),
        ("GET", "/recommend?k=2&user_id=a%ffb", "user_id"),
        ("GET", "/items/i1/similar?fields=title&fields=%c3", "fields"),
        ("GET", "/recommend?%ff=%ff", "?"),
    ):
        assert problem(await client.request(method, path)) == (400, "malformed_url", [field])
    assert problem(await client.get("/no%ffthing")) == (404, "not_found", [])
    assert await stored(client, "%EF%BF%BD") == 1
    assert (await client.get("/recommend?user_id=%EF%BF%BD")).json()["served_by"] == "ranking"
    assert (await client.delete("/users/%EF%BF%BD")).json()["states"] == 1


async def test_a_line_break_in_an_id_is_part_of_it(service: Started) -> None:
    """Erasing "u5\\n" leaves "u5" alone, and "u\\n6", which /events takes, can be read and erased."""
    _, client = service
    users = ("u5", "u5\n", "u\n6")
    events = [{"user_id": user, "item_id": "i1", "event_type": "view"} for user in users]
    assert (await client.post("/events", json={"events": events})).json()["accepted"] == 3
    for path, user in (("/users/u5%0A", "u5\n"), ("/users/u%0A6", "u\n6")):
        assert (await client.get(path)).json()["user_id"] == user
        erased = (await client.delete(path)).json()
        assert (erased["user_id"], erased["states"]) == (user, 1)
    assert await stored(client, "u5") == 1
    assert problem(await client.get("/items/i%0A1/similar")) == (404, "not_found", [])


async def test_similar_items_are_the_neighbours_of_the_bundle(service: Started) -> None:
    found, client = service
    bundle = found.lifecycle.current().bundle
    row = int(bundle.items.item_indices(["i-größe/1"])[0])
    answer = (await client.get("/items/i-größe/1/similar", params={"k": 3, "fields": "title"})).json()
    assert [item["item_id"] for item in answer["items"]] == [
        bundle.items.item_id(int(other)) for other in bundle.neighbours[row][:3]
    ]
    assert all("title" in item["fields"] for item in answer["items"])
    everything = (await client.get("/items/i1/similar", params={"k": 500})).json()
    assert len(everything["items"]) == 7  # the eighth place is empty in the tiny bundle


async def test_health_and_its_aliases(service: Started) -> None:
    running_service, client = service
    version = running_service.lifecycle.current().version
    for path in ("/livez", "/healthz", "/v2/health/live"):
        assert (await client.get(path)).json() == {"status": "ok"}
    for path in ("/readyz", "/v2/health/ready"):
        assert (await client.get(path)).json() == {"status": "ready", "bundle": version, "feature_store": "ok"}
    running_service.draining = True
    response = await client.get("/readyz")
    assert (response.status_code, response.json(), response.headers["connection"]) == (
        503, {"status": "draining"}, "close",
    )  # fmt: skip
    assert (await client.post("/recommend", json={})).headers["connection"] == "close"


async def test_a_sane_request_id_comes_back_and_another_is_replaced(service: Started) -> None:
    _, client = service
    for path in ("/livez", "/nothing"):
        kept = await client.get(path, headers={"x-request-id": "front-42"})
        assert kept.headers["x-request-id"] == "front-42"
    for bad in ("a b", "x" * 129, "<script>", ""):
        answer = await client.post("/recommend", json={}, headers={"x-request-id": bad})
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


async def test_keys_open_what_their_scope_says(settings: Settings) -> None:
    keys = tuple(ApiKey.parse(hash_key(key, [scope])) for key, scope in (("front", "serve"), ("boss", "admin")))
    front, boss = {"X-API-Key": "front"}, {"Authorization": "Bearer boss"}
    async with running(settings.model_copy(update={"api_keys": keys})) as (_, client):
        for path in ("/livez", "/readyz", "/healthz", "/v2/health/ready", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        for path in ("/recommend", "/items/i1/similar", "/metrics"):
            assert problem(await client.get(path))[:2] == (401, "unauthenticated")
            assert (await client.get(path, headers={"X-API-Key": "wrong"})).status_code == 401
            assert (await client.get(path, headers=front)).status_code == 200
            assert (await client.get(path, headers=boss)).status_code == 200
        for method, path in (("GET", "/users/u"), ("DELETE", "/users/u"), ("GET", "/bundles")):
            assert problem(await client.request(method, path, headers=front))[:2] == (403, "forbidden")
            assert (await client.request(method, path, headers=boss)).status_code == 200
        assert (await client.post("/bundles/rollback", headers=front)).status_code == 403


async def test_beyond_the_limit_requests_get_503_at_once_and_probes_still_answer(service: Started) -> None:
    running_service, client = service
    limit = running_service.settings.max_concurrency
    running_service.gate.in_work = limit
    answer = await client.post("/recommend", json={})
    assert problem(answer)[:2] == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    event = {"user_id": "u4", "item_id": "i1", "event_type": "view"}
    assert (await client.post("/events", json={"events": [event]})).status_code == 200
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/metrics")).status_code == 200
    running_service.gate.in_work = 2 * limit
    assert (await client.post("/events", json={"events": [event]})).status_code == 503


async def test_a_failure_of_our_own_is_told_without_its_text(service: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real flow with a broken engine: both ways into the service answer alike."""
    running_service, client = service
    monkeypatch.setattr(running_service.lifecycle, "_engine", object())
    for answer in (await client.post("/recommend", json={}), await client.get("/recommend")):
        assert problem(answer) == (500, "internal", [])
        assert "object" not in answer.text


async def test_metrics_count_requests_by_route_and_status(service: Started) -> None:
    _, client = service
    await client.post("/recommend", json={})
    await client.get("/items/i1/similar")
    await client.get("/nothing")
    text = (await client.get("/metrics")).text
    for series in (
        'shortlist_requests_total{route="/recommend",status="200",worker="0"} 1.0',
        'shortlist_requests_total{route="/items/{item_id}/similar",status="200",worker="0"} 1.0',
        'shortlist_requests_total{route="unknown",status="404",worker="0"} 1.0',
        'shortlist_recommendations_total{served_by="popular",worker="0"} 1.0',
    ):
        assert series in text


async def test_an_announced_length_is_refused_before_a_byte_is_read(settings: Settings) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"10000000")]
    scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": headers}
    await create_app(settings)(scope, receive, send)
    assert [message.get("status") for message in sent] == [413, None]


@pytest.mark.parametrize("path", ["/recommend", "/events"])
async def test_a_caller_that_goes_away_is_no_failure_of_ours(
    service: Started, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    running_service, client = service

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    app = client._transport.app  # type: ignore[attr-defined]
    await app(scope, receive, send)
    page = running_service.metrics.text().decode()
    assert f'shortlist_requests_total{{route="{path}",status="499",worker="0"}} 1.0' in page
    assert caplog.records == []
