"""Each gate holds at its limit and fails just past it; a failure shows all gates."""

import math

import pytest

from export import gates
from models.contract.manifest import Gate


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (gates.parity_gate("g", 1e-4), gates.parity_gate("g", 1.0001e-4)),
        (gates.batch_gate("g", 0), gates.batch_gate("g", 1)),
        (gates.recall_gate(0.99, 100_000), gates.recall_gate(0.9899, 100_000)),
        (gates.recall_gate(0.96, 1_000_000), gates.recall_gate(0.9599, 1_000_000)),
        (gates.not_worse_gate("ndcg@10", 0.196, 0.2, 0.02), gates.not_worse_gate("ndcg@10", 0.1959, 0.2, 0.02)),
        (gates.int8_gates("g", 0.4, 0.39801, 0.9)[0], gates.int8_gates("g", 0.4, 0.39799, 0.9)[0]),
        (gates.int8_gates("g", 0.4, 0.4, 0.9)[1], gates.int8_gates("g", 0.4, 0.4, 0.8999)[1]),
    ],
)
def test_each_gate_holds_at_its_limit_and_fails_past_it(good: Gate, bad: Gate) -> None:
    assert good.passed
    assert not bad.passed


def test_nan_never_passes() -> None:
    assert not gates.parity_gate("g", math.nan).passed
    assert not gates.recall_gate(math.nan, 10).passed


def test_a_gain_or_nothing_to_lose_is_no_loss() -> None:
    assert [gate.passed for gate in gates.int8_gates("g", 0.4, 0.41, 1.0)] == [True, True]
    assert gates.int8_gates("g", 0.0, 0.0, 1.0)[0].value == 0.0


@pytest.mark.parametrize(
    ("num_items", "limit"), [(10, 0.99), (100_000, 0.99), (316_228, 0.975), (1_000_000, 0.96), (10**8, 0.96)]
)
def test_the_recall_limit_between_the_two_stated_sizes_is_linear_in_the_logarithm(num_items: int, limit: float) -> None:
    assert gates.recall_limit(num_items) == pytest.approx(limit, abs=1e-6)


def test_a_limit_given_at_export_replaces_that_of_the_catalogue_and_the_gate_says_so() -> None:
    given = gates.recall_gate(0.9, 1_000, 0.9)
    assert (given.name, given.limit, given.passed) == ("index recall@200 (limit given at export)", 0.9, True)
    assert not gates.recall_gate(0.8999, 1_000, 0.9).passed


def test_failing_gates_are_named_and_all_are_shown() -> None:
    both = [gates.parity_gate("ranking/head.onnx", 2e-4), gates.recall_gate(0.999, 100)]
    gates.check(both[1:])
    with pytest.raises(gates.GateError) as error:
        gates.check(both)
    assert error.value.gates == both
    message = str(error.value)
    assert "these gates fail: parity ranking/head.onnx\n" in message
    assert "| parity ranking/head.onnx | 0.0002 | at most 0.0001 | **NO** |" in message
    assert "| index recall@200 | 0.999 | at least 0.99 | yes |" in message
