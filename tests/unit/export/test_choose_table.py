"""The smallest form inside its limits ships, and the manifest says what the smaller ones missed."""

from export.choose_table import smallest
from export.gates import Lost
from export.profile import Limits

LOST = {
    "good": Lost(0.4, 0.39801, 0.9),
    "worse order": Lost(0.4, 0.3979, 1.0),
    "other items": Lost(0.4, 0.41, 0.89),
}


def choose(*names: str) -> tuple[str, list[str], str]:
    chosen = smallest("rows", [(name, name) for name in names], ("plain", "plain"), Limits(), LOST.__getitem__)
    return chosen.form, [gate.name for gate in chosen.gates], chosen.why


def test_the_first_form_inside_the_limits_ships_with_its_gates() -> None:
    gates = ["good ndcg@10 loss rows", "good top-10 overlap rows"]
    assert choose("good", "other items") == ("good", gates, "good: inside the quality gates")


def test_what_fails_its_gate_ships_in_the_next_better_form() -> None:
    form, _, why = choose("worse order", "other items", "good")
    assert form == "good"
    assert why == (
        "good: inside the quality gates; worse order ndcg@10 loss rows 0.00525 against 0.005; "
        "other items top-10 overlap rows 0.89 against 0.9"
    )


def test_where_nothing_smaller_passes_the_plain_form_ships_and_needs_no_gate() -> None:
    why = "plain: nothing smaller passes; other items top-10 overlap rows 0.89 against 0.9"
    assert choose("other items") == ("plain", [], why)


def test_a_profile_that_asks_for_nothing_smaller_gets_the_plain_form() -> None:
    assert choose() == ("plain", [], "plain: as trained")
