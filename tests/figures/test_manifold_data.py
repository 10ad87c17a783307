"""`lorakappa.synthetic.experiments.manifold`, which only this figure uses."""

import numpy as np
import pytest

from lorakappa.conditioning import hessian
from lorakappa.synthetic.experiments.manifold import manifold


def test_kappa_is_that_of_the_whole_hessian_and_least_at_balance():
    arrays, meta = (result := manifold(points=9)).arrays, result.meta
    Z = np.diag([1.0, 0.3])
    for (x, y), kappa in zip(arrays["minimizers"].reshape(-1, 2), arrays["kappa"].ravel(), strict=True):
        assert x * y == pytest.approx(1)
        eigenvalues = np.linalg.eigvalsh(hessian(np.asarray([[x], [0]]), np.asarray([[y, 0]]), Z))
        assert kappa == pytest.approx(eigenvalues[-1] / eigenvalues[1], rel=1e-9)
    assert meta["kappa_balanced"] == pytest.approx(2 / 0.7)
    assert arrays["kappa"].min() == pytest.approx(meta["kappa_balanced"])
    assert arrays["kappa"].argmin(axis=1).tolist() == [4, 4]


def test_arrows_keep_the_product_and_end_on_the_balanced_lines():
    arrays = manifold(singular_values=(4.0, 1.0), points=5).arrays
    product = arrays["starts"].prod(axis=-1)
    np.testing.assert_allclose(arrays["paths"].prod(axis=-1), np.repeat(product[:, None], 41, axis=1), rtol=1e-12)
    np.testing.assert_allclose(arrays["paths"][:, 0], arrays["starts"], rtol=1e-12)
    np.testing.assert_allclose(arrays["paths"][:, -1], arrays["images"], rtol=1e-12)
    np.testing.assert_allclose(*np.abs(arrays["images"]).T, rtol=1e-12)
    np.testing.assert_allclose(arrays["balanced"], [[2, 2], [-2, -2]], rtol=1e-12)


def test_the_loss_is_that_of_the_slice():
    arrays = manifold(points=5).arrays
    x, y = arrays["x"][3], arrays["y"][1]
    difference = np.diag([1.0, 0.3]) - np.asarray([[x], [0]]) @ np.asarray([[y, 0]])
    assert arrays["excess"][1, 3] == pytest.approx(0.5 * np.sum(difference**2) - 0.5 * 0.3**2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"singular_values": (1.0, 1.0)}, "z > s₂"),
        ({"singular_values": (1.0, -0.1)}, "z > s₂"),
        ({"singular_values": (np.inf, 0.1)}, "z > s₂"),
        ({"extent": 1.0}, "extent above 1"),
        ({"points": 2}, "at least 3 points"),
        ({"starts": [(0.0, 1.0)]}, "different from 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        manifold(**arguments)
