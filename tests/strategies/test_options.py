"""The bounds of a flow's options."""

import pytest

from steper_serve.errors import InvalidRequest
from steper_serve.strategies.options import Options


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_steps", 0), ("max_steps", 11), ("top_k", 0), ("top_k", 21), ("max_tokens", 0)],
)
def test_numbers_out_of_bounds_are_refused_by_name(student, name, value):
    with pytest.raises(InvalidRequest, match=f"{name} is {value}") as refused:
        Options(student(), **{name: value})
    assert refused.value.param == name


@pytest.mark.parametrize("options", [{"max_steps": 1, "top_k": 1}, {"max_steps": 10, "top_k": 20}])
def test_the_bounds_themselves_are_allowed(student, options):
    Options(student(), **options, max_tokens=1)
