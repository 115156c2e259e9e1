"""The conditions a bundle must meet to be published. Each function states one; `check` fails with all of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from export.card import gate_table
from models.contract.manifest import Gate

PARITY = 1e-4
MAX_NDCG_LOSS = 0.005
MIN_OVERLAP = 0.90
RECALL_SMALL, SMALL = 0.99, 100_000
RECALL_LARGE, LARGE = 0.96, 1_000_000


class Lost(NamedTuple):
    """Lists of the same requests before and after.  overlap: mean share of the top 10 before that stays."""

    ndcg_before: float
    ndcg_after: float
    overlap: float


class GateError(Exception):
    """A bundle that may not be published.  gates: all of them, passed and failed."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        failed = ", ".join(gate.name for gate in gates if not gate.passed)
        super().__init__(f"the bundle is not published, these gates fail: {failed}\n\n{gate_table(gates)}")
        self.gates = list(gates)


def check(gates: Sequence[Gate]) -> None:
    """Raises GateError unless every gate passed."""
    if not all(gate.passed for gate in gates):
        raise GateError(gates)


def at_most(name: str, value: float, limit: float) -> Gate:
    """A gate that fails above the limit, and for NaN."""
    return Gate(name=name, value=value, rule="at_most", limit=limit, passed=value <= limit)


def at_least(name: str, value: float, limit: float) -> Gate:
    """A gate that fails below the limit, and for NaN."""
    return Gate(name=name, value=value, rule="at_least", limit=limit, passed=value >= limit)


def parity_gate(graph: str, difference: float) -> Gate:
    """Largest absolute difference between the torch module and the fp32 graph."""
    return at_most(f"parity {graph}", difference, PARITY)


def batch_gate(graph: str, rows_changed: int) -> Gate:
    """Output rows that are not bitwise the same alone and in a batch with other requests."""
    return at_most(f"rows changed by batching {graph}", rows_changed, 0)


def int8_gates(graph: str, ndcg_fp32: float, ndcg_int8: float, overlap: float) -> list[Gate]:
    """What int8 costs: relative loss of NDCG@10, and the mean share of the fp32 top 10 that stays."""
    return loss_gates("int8", graph, Lost(ndcg_fp32, ndcg_int8, overlap), MAX_NDCG_LOSS, MIN_OVERLAP)


def loss_gates(form: str, part: str, lost: Lost, max_loss: float, min_overlap: float) -> list[Gate]:
    """What a smaller form of a part costs.  max_loss: relative, of NDCG@10."""
    loss = (lost.ndcg_before - lost.ndcg_after) / lost.ndcg_before if lost.ndcg_before > 0 else 0.0
    return [
        at_most(f"{form} ndcg@10 loss {part}", loss, max_loss),
        at_least(f"{form} top-10 overlap {part}", lost.overlap, min_overlap),
    ]


def recall_limit(num_items: int) -> float:
    """Least recall@200 of the index: 0.99 up to 100,000 items, 0.96 from 1,000,000 on, linear in log(N) between."""
    if num_items <= SMALL:
        return RECALL_SMALL
    share = min(math.log(num_items / SMALL) / math.log(LARGE / SMALL), 1.0)
    return RECALL_SMALL + share * (RECALL_LARGE - RECALL_SMALL)


def recall_gate(recall: float, num_items: int, own_limit: float | None = None) -> Gate:
    """recall: recall@200 of the index against the exact search, on real user vectors.  own_limit: whoever exports
    gave one in place of the catalogue's; the gate's name tells."""
    if own_limit is not None:
        return at_least("index recall@200 (limit given at export)", recall, own_limit)
    return at_least("index recall@200", recall, recall_limit(num_items))


def not_worse_gate(metric: str, new: float, active: float, margin: float) -> Gate:
    """The new bundle against the active one on the same test window; margin is relative, 0.02 allows 2 % less."""
    return at_least(f"{metric} against the active bundle", new, active * (1.0 - margin))
