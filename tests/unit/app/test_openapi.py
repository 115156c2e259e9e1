"""The description of the API."""

from pathlib import Path
from typing import Any

import orjson

from app.main import create_api
from app.openapi import document_text

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_committed_document_is_current() -> None:
    """Otherwise: make openapi"""
    assert COMMITTED.read_text() == document_text(create_api())


def test_every_call_is_there_with_its_body_its_answer_and_its_errors() -> None:
    document = orjson.loads(COMMITTED.read_bytes())
    calls = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert calls == {
        ("post", "/recommend"), ("get", "/recommend"), ("post", "/events"), ("get", "/items/{item_id}/similar"),
        ("get", "/users/{user_id}"), ("delete", "/users/{user_id}"), ("get", "/bundles"),
        ("post", "/bundles/{version}/activate"), ("post", "/bundles/rollback"),
        ("get", "/livez"), ("get", "/readyz"), ("get", "/metrics"),
    }  # fmt: skip
    body = document["paths"]["/recommend"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/RecommendRequest"}
    for path, methods in document["paths"].items():
        for call in methods.values():
            assert "200" in call["responses"]
            if path not in ("/livez", "/readyz"):
                refused = call["responses"]["422"]["content"]["application/json"]["schema"]
                assert refused == {"$ref": "#/components/schemas/ErrorAnswer"}


def test_every_reference_leads_somewhere() -> None:
    document = orjson.loads(COMMITTED.read_bytes())
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(_references(document)) <= known


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for value in node for found in _references(value)] if isinstance(node, list) else []
