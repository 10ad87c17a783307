"""What iLoRA's regularizer leaves of the freedom: its Jacobian against differences, and kernels at any scale."""

import numpy as np
import pytest

from lorakappa.conditioning import imbalance
from lorakappa.conditioning.claims import CLAIMS, ilora_freedom
from lorakappa.conditioning.verification import Shape

CLAIM = CLAIMS["ilora-restricts-freedom"]
SHAPE = Shape(4, 3, 2)


def pair(size=1.0):
    """Singular values 1.5², 1, ½ times size², and BBᵀ = 1.2⁻⁴AᵀA."""
    return CLAIM.family.floating(SHAPE, np.array([1.5 * size, size, 0.5 * size**2, 1.2]))


def test_the_jacobian_of_the_imbalance_by_differences():
    """D is quadratic: D(x + v) − D(x − v) = 2Kv for a v of any length."""
    x, rng = pair(), np.random.default_rng(0)
    ratio = 1.2**-4
    assert np.linalg.norm(imbalance(x.A, x.B, ratio=ratio)) < 1e-12
    K = ilora_freedom._jacobian(x)
    for _ in range(3):
        dA, dB = rng.standard_normal(x.A.shape), rng.standard_normal(x.B.shape)
        moved = [imbalance(x.A + t * dA, x.B + t * dB, ratio=ratio) for t in (1, -1)]
        change = K @ np.concatenate([dA.ravel(), dB.ravel()])
        np.testing.assert_allclose(change, (moved[0] - moved[1]).ravel() / 2, atol=1e-12)


@pytest.mark.parametrize("size", [2.0**-30, 1.0, 2.0**30])
def test_the_kernel_is_that_of_any_scale(size):
    """H and K both grow with the square of the pair's size, 2KᵀK too fast to be added as it is."""
    assert CLAIM.compare(pair(size)).left == 1


def test_the_kernel_is_what_the_jacobian_leaves(monkeypatch):
    """Of the four dimensions of f's kernel: all held, one of them held."""
    x, K = pair(), ilora_freedom._jacobian
    monkeypatch.setattr(ilora_freedom, "_jacobian", lambda x: np.eye(x.shape.d))
    assert CLAIM.compare(x).left == 0
    monkeypatch.setattr(ilora_freedom, "_jacobian", lambda x: K(x)[:1])  # D₁₁ alone
    assert CLAIM.compare(x).left == 3
