"""How every yardstick is served: one uvicorn process on loopback, as fast as uvicorn runs (docs/decisions/12)."""

import argparse

import uvicorn
from fastapi import FastAPI


def yardstick_arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--port`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="TCP port on loopback")
    return parser


def serve(app: FastAPI, port: int) -> None:
    """Blocks until SIGTERM or SIGINT."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_level="warning",
    )
