"""What balancing lowers, counted from small numbers by hand."""

from math import inf

import pytest

from lorakappa.llm.curvature.results import CurvatureReport, GaugePoint, LayerCurvature, Spectrum
from lorakappa.llm.curvature.summary import balancing, excesses


def spectrum(largest, trace=10.0, kappa=2.0):
    return Spectrum((), largest, 0.0, trace, 0.0, 1e-12, None, None, {"r": kappa})


def point(t, largest, trace=10.0, kappa=2.0, hessian=None, bound=4.0):
    found = None if hessian is None else spectrum(hessian)
    return GaugePoint(t, 1.0, 0.1, 5.0 - (t or 0), bound, spectrum(largest, trace, kappa), found)


def layer(trained, balanced, least=None, lowest=0.0):
    gauges = {"ilora": point(None, 12.0, 40.0)}
    if least is not None:
        gauges |= {"trace": point(None, 2.0, least), "lambda_max": point(None, 1.0, 2 * least)}
    return LayerCurvature("a", (4, 4), 2, 16, "dense", {"r": 2}, 12, 0.0, 0.0, (trained, balanced), gauges, lowest)


REPORT = CurvatureReport(
    1.0,
    10,
    11,
    "float64",
    (
        layer(point(0, 4.0, hessian=8.0), point(1, 2.0, 9.0, hessian=2.0), least=5.0, lowest=1.0),
        layer(point(0, 4.0), point(1, 4.0 * (1 + 1e-6), 12.0), least=8.0, lowest=2.0),
        layer(point(0, 4.0, kappa=inf), point(1, 6.0, 10.0)),
    ),
)


def test_layers_are_counted_where_both_values_are_known_and_differ():
    found = balancing(REPORT)
    largest = found["lambda_max"]
    assert (largest.lower, largest.higher, largest.layers) == (1, 1, 3)
    assert (largest.smallest, largest.largest) == (0.5, 1.5)
    assert largest.median == pytest.approx(1 + 1e-6)
    trace = found["trace"]
    assert (trace.lower, trace.higher, trace.smallest, trace.median, trace.largest) == (1, 1, 0.9, 1.0, 1.2)
    assert (found["smoothness"].lower, found["smoothness"].layers) == (3, 3)
    assert (found["kappa_bound"].lower, found["kappa_bound"].higher) == (0, 0)
    assert (found["kappa_r"].layers, found["hessian_lambda_max"].layers) == (2, 1)
    assert found["hessian_lambda_max"].median == 0.25
    assert "kappa_2r" not in found


def test_gauges_are_compared_with_the_least_where_it_is_known():
    found = excesses(REPORT)
    assert list(found) == ["trained", "balanced", "ilora", "trace", "lambda_max"]
    assert (found["trained"]["lambda_max"].median, found["trained"]["lambda_max"].largest) == (3.0, 4.0)
    assert found["balanced"]["lambda_max"].median == pytest.approx(2.0)
    assert (found["balanced"]["trace"].median, found["balanced"]["trace"].largest) == (1.65, 1.8)
    assert (found["ilora"]["trace"].largest, found["trace"]["trace"].largest) == (8.0, 1.0)
    assert found["lambda_max"]["trace"].layers == 2
    assert excesses(CurvatureReport(1.0, 10, 11, "float64", REPORT.layers[2:])) == {}
