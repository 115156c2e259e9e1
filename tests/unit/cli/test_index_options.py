"""`shortlist export --index`: what is typed, and what is wrong with it."""

import pytest

from cli.export import index_parameters


def test_parameters_of_the_index_are_names_with_whole_numbers() -> None:
    assert index_parameters([]) == {}
    assert index_parameters(["nprobe=64", "k_factor_rf=2"]) == {"nprobe": 64, "k_factor_rf": 2}


@pytest.mark.parametrize("typed", ["nprobe", "nprobe=", "=4", "nprobe=many", "nprobe=-1", "nprobe=1.5", "nprobe=4=5"])
def test_any_other_parameter_is_refused_as_it_was_typed(typed: str) -> None:
    with pytest.raises(ValueError, match=f'--index-parameter "{typed}" is no name with a whole number'):
        index_parameters([typed])
