"""Every tolerance of the project, each as machine epsilon times what amplifies it.

Nothing else in the packages hard-codes a tolerance: a number that decides whether something "is zero",
"is balanced" or "is a minimizer" has a name, a derivation and this one home.
"""

from typing import Final

import numpy as np

EPS: Final = float(np.finfo(np.float64).eps)
"""Machine epsilon of float64, 2⁻⁵² ≈ 2.2e-16: the precision of all r×r algebra."""

PRODUCT_RTOL: Final = 16.0
"""`balance` may change AB by at most this many storage epsilons times ‖A‖_F ‖B‖_F.

Two Householder QR factorizations, one r×r product, one r×r SVD and the final products each commit a
backward error of a few eps relative to ‖A‖_F ‖B‖_F; 16 is their sum with room, and is tested."""

SCALE_RTOL: Final = 4 * EPS
"""By how much an adapter's scale α/√r may differ from the one that its α was computed from.

The root, the product scale·√r and the quotient are each rounded once, by at most EPS/2."""

MINIMIZER_RTOL: Final = EPS**0.5
"""Default relative distance ‖AB − Z_r‖_F / ‖Z_r‖_F at which a pair still counts as a minimizer.

μ is a Lipschitz function of the pair, so a relative error δ in AB moves κ by about δ·κ; at √eps half of
the digits of a moderate κ survive. Pass `rtol` to accept pairs that were trained in lower precision."""

GRAM_DETERMINANT: Final = 0.1
"""Determinant of BBᵀ, scaled to a diagonal of 1, down to which it may stand for B in a projection.

Its smallest eigenvalue is at least ((r − 1)/r)^{r−1} times the determinant (the others have the mean of at most
r/(r − 1)), so its condition is at most e·r/0.1, and so many EPS is what squaring B costs."""

GRAM_SINGULAR_VALUE: Final = 0.002
"""Smallest singular value of AB, against ‖A‖_F‖B‖_F, down to which the Gram matrices may stand for both factors.

Their products have errors of a few EPS·‖A‖²‖B‖² in s², so AᵀA = S is missed by 500 times that at worst; between pairs
that a step of training lies between it is a few EPS."""


def truncation_singular_value(storage_eps: float, r: int) -> float:
    """Smallest singular value of AB, against ‖A‖_F‖B‖_F, down to which Gram matrices may stand for both in its SVD.

    Forming and diagonalizing LᵀAᵀAL costs about r·EPS·‖A‖²‖B‖² in s², so that singular values and truncated products
    have errors of that over s: at this size and 16 of them still a quarter of `storage_eps`·‖A‖‖B‖.
    """
    return 64 * r * EPS / storage_eps


ROOT_DIFFERENCE: Final = 64 * EPS**0.5
"""Size, against Σ_j ‖a_j‖‖b_j‖, below which the difference of two products is not taken from roots of Gram matrices.

Those have errors of EPS^{1/2}; a difference of this size is right to 2 per cent, as is its share in what is printed."""


ILL_CONDITIONED: Final = EPS**0.5
"""Size, against σ₁, up to which a singular value is taken from the inverse matrix where that is known.

An SVD has absolute errors of about EPS·σ₁ in every singular value, that is, half of a float64's digits there."""


def rank_rtol(storage_eps: float, r: int) -> float:
    """Relative size, against σ₁(A)σ₁(B), below which a singular value of AB is numerically zero.

    Rounding the stored factors perturbs AB by about `storage_eps`·σ₁(A)σ₁(B) and the float64 QR and SVD
    by a few r·EPS on top; by Weyl's inequality smaller singular values cannot be told from 0.
    """
    return storage_eps + 4 * r * EPS


def balance_rtol(storage_eps: float, r: int) -> float:
    """Relative gap ‖AᵀA − BBᵀ‖_F / (‖A‖_F² + ‖B‖_F²) up to which a pair counts as balanced.

    Rounding each entry of a balanced pair moves either Gram matrix by `storage_eps` relatively; the
    factor 8√r covers the accumulated rounding of computing the pair itself.
    """
    return 8 * r**0.5 * storage_eps


def gap_rtol(k: int) -> float:
    """Relative gap (s_r − s_{r+1})/s₁ below which s_r and s_{r+1} count as equal.

    A backward-stable SVD has absolute errors of about k·EPS·s₁ in every singular value.
    """
    return 4 * k * EPS


def gram_rtol(r: int) -> float:
    """Smallest relative eigenvalue of an (r, r) Gram matrix, formed in float64, that can be told from 0.

    Forming it and diagonalizing it each perturb its eigenvalues by about r·EPS times the largest one.
    """
    return 4 * r * EPS


GRAM_SHARE: Final = 0.75
"""Share of `balance_rtol` that the noise of Gram matrices may take; rounding the balanced pair takes the rest."""


def gram_chunk(r: int) -> int:
    """Longest chain of additions, in the factors' own precision, inside an (r, r) Gram matrix.

    So long that `gram_noise` is a sixth of the `balance_rtol` of that precision: the same headroom for every r.
    """
    return 32 * r


def gram_noise(eps: float, r: int) -> float:
    """Noise of an entry of an (r, r) Gram matrix, relative to the norms of its two columns.

    Independent roundings of n partial sums that grow linearly, as those of squares do, add up to eps·√n/6 of the last
    one in the root mean square (Higham and Mary 2019); √n/4 is half as much again. Tested on positive columns.
    """
    return float(eps * gram_chunk(r) ** 0.5 / 4)


def change_noise(eps: float, r: int) -> float:
    """ν, the rounding of AT relative to (Σ_k T_kj²‖a_k‖²)^{1/2} in column j.

    Rounding the entries of T gives at most eps/2, and the r additions of a product, if independent, eps/2·r^{1/2}.
    """
    return float(eps / 2 * (1 + r**0.5))


def eigen_noise(eps: float, r: int) -> float:
    """Backward error ‖δM‖_F/‖M‖₂ of forming and diagonalizing M = LᵀAᵀAL, an (r, r) matrix.

    Each is a modest multiple of eps in every direction (Anderson et al., LAPACK Users' Guide, section 4.7), so r^{1/2}
    as much in the Frobenius norm.
    """
    return float(4 * eps * r**0.5)


def psd_rtol(d: int) -> float:
    """Size, against max |H_ij|, below which an eigenvalue of a (d, d) Hessian, or its asymmetry, is rounding.

    Forming a d-dimensional Hessian and diagonalizing it costs a modest multiple of d·EPS.
    """
    return 64 * d * EPS


def summation_rtol(n: int) -> float:
    """Bound on the error of a result of n products and sums, against the sum of their absolute values.

    Standard error analysis gives n·EPS/2 (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1), and
    the QR factorization of a matrix with n entries as much; twice their sum leaves room.
    """
    return 2 * n * EPS


CONCLUSION_TOL: Final = summation_rtol(10_000)
"""By how much an effect of recorded losses of about 1 may differ when it is computed again, with another NumPy.

Mean, deviation and interval of up to a thousand differences take fewer sums and products than that."""


def rerun_rtol(storage_eps: float) -> float:
    """Relative difference of a loss when the same run is made again by the same type of machine and versions.

    The same arguments give the same steps; the mean of a few evaluated batches may be rounded in another order.
    """
    return 16 * storage_eps


GAUGE_GAP_RTOL: Final = EPS**0.5
"""Relative gap between the value in a gauge and the bound for all gauges at which the search for the best one ends.

The value is quadratic in the gauge's distance from the best one, so that a smaller gap moves T by less than its
rounding."""


def claim_rtol(condition: float, d: int) -> float:
    """Relative slack that rounding may consume when a claim's two sides are compared in float64.

    Both sides come from backward-stable algorithms on d-dimensional data, so their relative error is a small
    multiple of d·EPS times the problem's condition. It only decides which instances deserve an exact
    look: a refutation is always certified in rational or ball arithmetic.
    """
    return 16 * d * EPS * condition
