"""Grids as one types them."""

import numpy as np
import pytest

from lorakappa.shared.grids import parse_grid, rounded


def test_log_spaced_and_listed():
    assert parse_grid("1e-3:0.5:7") == tuple(np.geomspace(1e-3, 0.5, 7))
    assert parse_grid("0.1") == (0.1,)
    assert parse_grid("3, 0.1,2,3") == (0.1, 2.0, 3.0)
    assert parse_grid("0.3:0.3:1") == (0.3,)


def test_rounding():
    assert parse_grid("1e-4:1e-3:4", digits=4) == (1e-4, 0.0002154, 0.0004642, 1e-3)
    assert parse_grid("0.12345678,0.123456", digits=4) == (0.1235,)
    assert rounded(0.123456, 2) == 0.12


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ""),
        ("fast", ""),
        ("1:2", ""),
        ("1:2:x", ""),
        ("1,x", ""),
        ("1:2:0", "; with that N it is empty"),
        ("2:1:3", "; LO and HI must be positive, finite and in that order"),
        ("0:1:3", "; LO and HI must be positive, finite and in that order"),
        ("1:inf:3", "; LO and HI must be positive, finite and in that order"),
        ("nan:1:3", "; LO and HI must be positive, finite and in that order"),
        ("1:2:1", "; a single point cannot be both LO and HI"),
    ],
)
def test_no_grids(text, why):
    with pytest.raises(ValueError) as caught:
        parse_grid(text)
    expected = f"{text!r} is no grid: give LO:HI:N with 0 < LO ≤ HI, or numbers separated by commas{why}"
    assert str(caught.value) == expected
