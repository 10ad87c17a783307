"""Names of methods are taken apart the same way in every package."""

from math import inf

import pytest

from lorakappa.shared.method_names import Option, split_method_names, take_apart, with_option

RICH = {
    "lambda": Option(1.0, "a number above 0"),
    "power": Option(1.0, "any number", low=-inf, formerly="exponent"),
    "damping": Option(1e-2, "a number that may be 0", closed=True),
    "ratio": Option("fixed", "a word", words=("fixed", "trained")),
}
KNOWN = {"plain": {}, "rich": RICH}


def test_parts():
    found = take_apart("rich:lambda=0.1, power=-2 ,ratio=trained@5", KNOWN)
    assert found.base == "rich"
    assert found.options == {"lambda": 0.1, "power": -2.0, "damping": 1e-2, "ratio": "trained"}
    assert found.every == 5
    assert take_apart("plain", KNOWN).every == 1
    assert take_apart("rich:damping=0", KNOWN).options["damping"] == 0
    assert found.given == {"lambda", "power", "ratio"}
    assert KNOWN["rich"]["lambda"].default == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("poor", "unknown method 'poor'; choose from plain, rich, each also as NAME[:KEY=VALUE,…][@K]"),
        ("plain@0", "what follows @ must be a positive integer"),
        ("plain:lambda=1", "plain has no option 'lambda'; it has none"),
        ("rich:lamda=1", "rich has no option 'lamda'; choose from lambda, power, damping, ratio"),
        ("rich:exponent=1", "rich has no option 'exponent'; it is called power now"),
        ("rich:", "'' is not KEY=VALUE"),
        ("rich:lambda=1,lambda=2", "lambda is given twice"),
        ("rich:lambda=x", "lambda must be a number, not 'x'"),
        ("rich:lambda=0", "lambda must be finite and > 0, but is 0"),
        ("rich:damping=-1", "damping must be finite and ≥ 0, but is -1"),
        ("rich:power=-inf", "power must be finite, but is -inf"),
        ("rich:ratio=2", "ratio must be fixed or trained, not '2'"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ValueError) as caught:
        take_apart(name, KNOWN)
    assert message in str(caught.value)


def test_lists():
    assert split_method_names("plain, rich:lambda=1,power=2@3 ,plain@2,") == [
        "plain",
        "rich:lambda=1,power=2@3",
        "plain@2",
    ]
    for text in ("power=2,plain", "plain,power=2", "rich:lambda=1@2,power=2"):
        with pytest.raises(ValueError, match="belongs to no method"):
            split_method_names(text)


@pytest.mark.parametrize("value", [0.1, 1e-7, 1 / 3, 12345.678])
def test_an_option_that_is_added_can_be_read_back(value):
    for name in ("rich", "rich:power=2", "rich@4", "rich:power=2@4"):
        found = take_apart(with_option(name, "lambda", value), KNOWN)
        assert found.options["lambda"] == pytest.approx(value, rel=1e-11)
        assert found.every == (4 if "@" in name else 1)
        assert found.options["power"] == (2 if "power" in name else 1)
