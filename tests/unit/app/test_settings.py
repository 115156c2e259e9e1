"""Settings: what is refused, and that a worker gets what its supervisor has."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.auth import hash_key
from app.settings import Settings
from models.contract.candidates import NUM_RANKED

KEY = hash_key("secret", ["serve"])


def test_without_a_key_only_loopback_is_listened_on() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        Settings(host=host)
    with pytest.raises(ValidationError, match="without an API key"):
        Settings(host="0.0.0.0")
    Settings(host="0.0.0.0", insecure=True)
    Settings.model_validate({"host": "0.0.0.0", "api_keys": KEY})


def test_api_keys_come_from_one_variable_with_spaces_between(monkeypatch: pytest.MonkeyPatch) -> None:
    other = hash_key("other", ["admin", "serve"])
    monkeypatch.setenv("SHORTLIST_API_KEYS", f" {KEY}  {other} ")
    assert [key.entry for key in Settings().api_keys] == [KEY, other]


def test_a_key_that_was_not_hashed_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"api_keys": "my-plain-secret"})
    assert "my-plain-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("workers", 0), ("port", 65_536), ("redis_url", "http://x"), ("drain_s", float("nan"))]
)
def test_values_out_of_range_name_their_setting(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_a_worker_reads_back_exactly_what_its_supervisor_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHORTLIST_MAX_BATCH", "3")
    monkeypatch.setenv("shortlist_port", "1")
    ours = Settings.model_validate(
        {"data_dir": tmp_path, "api_keys": KEY, "deadline_ms": None, "workers": 2, "worker_index": 1, "port": 9}
    )
    assert ours.max_batch == 3
    environment = ours.environment()
    monkeypatch.delenv("shortlist_port")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == ours
    assert environment.get("shortlist_port") is None


def test_as_many_candidates_are_ranked_as_training_has() -> None:
    assert Settings().candidates == NUM_RANKED


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
