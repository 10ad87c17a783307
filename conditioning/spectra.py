"""The exact spectrum of Model 1's Hessian at a global minimizer, and its condition number κ = L/μ.

Derivation (made here; the poster gives bounds only). At a minimizer AB = Z_r = U_r S V_rᵀ write
dA = U_r X + U_⊥ Y and dB = X'V_rᵀ + Y'V_⊥ᵀ. The quadratic form ‖dA·B + A·dB‖² − 2⟨Z − Z_r, dA·dB⟩ splits:

- on (X, X') it is MᵀM of an r×r product with invertible factors: r² zeros, which are the GL(r) orbit, and
  σ_i(A)² + σ_j(B)² for i, j = 1..r;
- each row y_l of Y and column y'_l of Y' with l = r+1..k, k = min(a, b), couple through the residual's
  singular value s_l: the 2r eigenvalues of [[BBᵀ, −s_l I], [−s_l I, AᵀA]];
- rows or columns beyond k meet no residual: σ_j(B)², (a − k) times each, or σ_i(A)², (b − k) times each.

So L = σ₁(A)² + σ₁(B)². The block's λ_min decreases with s_l and never exceeds min(σ_r(A)², σ_r(B)²), hence
for r < k the smallest non-zero eigenvalue μ is that of the block l = r+1.

The block is never formed. With S = diag(s_1..s_r), AᵀU_r = GᵀS^{1/2} and BV_r = G⁻¹S^{1/2} it equals FFᵀ for

    F = 2^{-1/2} [[ BV_r D₋,  BV_r D₊ ], [ AᵀU_r D₋, −AᵀU_r D₊ ]],   D∓ = (I ∓ s_l S⁻¹)^{1/2},

so its eigenvalues are squared singular values of F: small ones come out to EPS·√κ relatively, not EPS·κ. The
smallest one is better still: F⁻¹ needs no inversion, since (BV_r)⁻¹ = S⁻¹(AᵀU_r)ᵀ and (AᵀU_r)⁻¹ = S⁻¹(BV_r)ᵀ, so μ is
the reciprocal of a squared norm,

    F⁻¹ = 2^{-1/2} diag(D₋, D₊)⁻¹ [[ I, I ], [ I, −I ]] diag(S⁻¹(AᵀU_r)ᵀ, S⁻¹(BV_r)ᵀ),   μ = ‖F⁻¹‖₂⁻².
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import (
    Array,
    NotAMinimizerError,
    as_matrix,
    as_pair,
    as_singular_values,
    check_rank,
)
from lorakappa.conditioning.factors import check_target, jacobian
from lorakappa.conditioning.tolerances import MINIMIZER_RTOL, gap_rtol


class ExtremeEigenvalues(NamedTuple):
    """The smallest non-zero and the largest eigenvalue of a Hessian."""

    mu: float
    L: float


@dataclass(frozen=True)
class Minimizer:
    """What the closed forms need of a minimizer: r×r matrices and singular values, nothing of size a or b.

    Attributes:
        a: rows of A.
        b: columns of B.
        s: singular values of Z, descending; (k,) or at least min(r + 1, k) of them.
        sigma_A: (r,) singular values of A, descending.
        sigma_B: (r,) singular values of B, descending.
        AtU: (r, r) matrix AᵀU_r = GᵀS^{1/2}.
        BV: (r, r) matrix BV_r = G⁻¹S^{1/2}.
    """

    a: int
    b: int
    s: Array
    sigma_A: Array
    sigma_B: Array
    AtU: Array
    BV: Array

    @property
    def r(self) -> int:
        """Rank of the factorization."""
        return len(self.sigma_A)

    @property
    def k(self) -> int:
        """min(a, b), the number of singular values of Z."""
        return min(self.a, self.b)

    @property
    def L(self) -> float:
        """Largest eigenvalue, σ₁(A)² + σ₁(B)²."""
        return float(self.sigma_A[0] ** 2 + self.sigma_B[0] ** 2)

    @property
    def mu(self) -> float:
        """Smallest non-zero eigenvalue (module docstring)."""
        if self.r < self.k:
            s, ratio = self.s[: self.r, None], self.s[self.r] / self.s[: self.r, None]
            left, right = self.AtU.T / s, self.BV.T / s
            minus, plus = np.sqrt(1 - ratio), np.sqrt(1 + ratio)
            inverse = np.block([[left / minus, right / minus], [left / plus, -right / plus]])
            return float(2 / np.linalg.norm(inverse, 2) ** 2)
        if self.a == self.b:
            return float(self.sigma_A[-1] ** 2 + self.sigma_B[-1] ** 2)
        return float((self.sigma_B if self.a > self.b else self.sigma_A)[-1] ** 2)

    def residual_block(self, tail: Array) -> Array:
        """Eigenvalues of [[BBᵀ, −s_l I], [−s_l I, AᵀA]] for each s_l in `tail`.

        Args:
            tail: (n,) singular values s_l ≤ s_{r+1}.

        Returns:
            (n, 2r) eigenvalues, descending.
        """
        ratio = tail[:, None, None] / self.s[: self.r]
        minus, plus = np.sqrt(1 - ratio), np.sqrt(1 + ratio)
        F = np.concatenate(
            [
                np.concatenate([self.BV * minus, self.BV * plus], axis=-1),
                np.concatenate([self.AtU * minus, -self.AtU * plus], axis=-1),
            ],
            axis=-2,
        )
        eigenvalues: Array = np.linalg.svd(F, compute_uv=False) ** 2 / 2
        return eigenvalues


def analyse_minimizer(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    singular_values: ArrayLike | None = None,
    rtol: float = MINIMIZER_RTOL,
) -> Minimizer:
    """Checks that (A, B) minimizes ½‖Z − AB‖_F² and reduces it to the r×r data of the closed forms.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target; its SVD is computed here. Leave it out to pass `singular_values`.
        singular_values: descending singular values of Z, at least min(r + 1, k) of them. Then only
            σ(AB) = (s_1, …, s_r) can be checked, not the singular subspaces.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        The minimizer's data, after O((a + b)r²) work past the SVD of Z.

    Raises:
        NotAMinimizerError: if AB differs from Z_r by more than `rtol`.
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on bad shapes, ranks, singular values or non-finite entries.
    """
    left, right = as_pair(A, B)
    (a, r), b = left.shape, right.shape[1]
    check_rank(r, a, b)
    if not rtol >= 0:
        raise ValueError(f"rtol = {rtol} must be a number ≥ 0")
    if (Z is None) == (singular_values is None):
        raise ValueError("pass either the target Z or its singular values, not both and not neither")

    # AB = Q_A (R_A R_Bᵀ) Q_Bᵀ: the SVD of the r×r core gives U_r = Q_A U and V_r = Q_B V without forming either
    R_A, R_Bt = _triangular_factor(left), _triangular_factor(right.T)
    U, s_product, Vt = np.linalg.svd(R_A @ R_Bt.T)
    if Z is not None:
        target = as_matrix("Z", Z)
        if target.shape != (a, b):
            raise ValueError(f"Z has shape {target.shape}, but AB has shape {(a, b)}")
        U_Z, s, Vt_Z = np.linalg.svd(target, full_matrices=False)
        check_target(s, r)
        distance = _low_rank_norm(left, right, U_Z[:, :r] * s[:r], Vt_Z[:r])
    else:
        assert singular_values is not None
        s, _ = leading_singular_values(singular_values, r, (a, b))
        distance = float(np.linalg.norm(s_product - s[:r]))
    allowed = rtol * float(np.linalg.norm(s[:r]))
    if not distance <= allowed:
        raise NotAMinimizerError(
            f"AB is not the best rank-{r} approximation of Z: ‖AB − Z_r‖_F = {distance:.3g}, allowed {allowed:.3g}. "
            "The closed forms hold at minimizers; use hessian(A, B, Z) elsewhere, or raise rtol"
        )
    return Minimizer(
        a=a,
        b=b,
        s=s,
        sigma_A=np.asarray(np.linalg.svd(R_A, compute_uv=False), dtype=np.float64),
        sigma_B=np.asarray(np.linalg.svd(R_Bt, compute_uv=False), dtype=np.float64),
        AtU=R_A.T @ U,  # AᵀQ_A U
        BV=R_Bt.T @ Vt.T,  # BQ_B V
    )


def _triangular_factor(A: Array) -> Array:
    """R of A = QR; Q is not formed."""
    return np.asarray(np.linalg.qr(A, mode="r"), dtype=np.float64)


def _low_rank_norm(A: Array, B: Array, C: Array, D: Array) -> float:
    """‖AB − CD‖_F without forming an (a, b) matrix: QR of the stacked factors."""
    R_left = _triangular_factor(np.hstack([A, -C]))
    R_right = _triangular_factor(np.vstack([B, D]).T)
    return float(np.linalg.norm(R_left @ R_right.T))


def spectrum(A: ArrayLike, B: ArrayLike, Z: ArrayLike, *, rtol: float = MINIMIZER_RTOL) -> Array:
    """All eigenvalues of the Hessian of ½‖Z − AB‖_F² at a minimizer, in closed form.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        (d,) float64, ascending, with multiplicity; the first r² are exactly 0. Source: module docstring.

    Raises:
        NotAMinimizerError: if (A, B) is not a minimizer.
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on bad shapes, ranks or non-finite entries.
    """
    pair = analyse_minimizer(A, B, Z, rtol=rtol)
    a, b, k, r = pair.a, pair.b, pair.k, pair.r
    alpha, beta = pair.sigma_A**2, pair.sigma_B**2
    return np.sort(
        np.concatenate(
            [
                np.zeros(r * r),
                (alpha[:, None] + beta).ravel(),
                pair.residual_block(pair.s[r:]).ravel(),
                np.repeat(beta, a - k),
                np.repeat(alpha, b - k),
            ]
        )
    )


def extreme_eigenvalues(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    singular_values: ArrayLike | None = None,
    rtol: float = MINIMIZER_RTOL,
) -> ExtremeEigenvalues:
    """The smallest non-zero eigenvalue μ and the largest L of the Hessian at a minimizer, in closed form.

    Arguments, errors and cost are those of `condition_number`.
    """
    pair = analyse_minimizer(A, B, Z, singular_values=singular_values, rtol=rtol)
    return ExtremeEigenvalues(mu=pair.mu, L=pair.L)


def condition_number(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    singular_values: ArrayLike | None = None,
    rtol: float = MINIMIZER_RTOL,
) -> float:
    """κ = L/μ of the Hessian of ½‖Z − AB‖_F² at a minimizer; μ is the smallest eigenvalue past the r² zeros.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target; its SVD dominates the cost. Leave it out to pass `singular_values`.
        singular_values: descending singular values of Z, at least min(r + 1, k); then the cost is
            O((a + b)r² + r³), and only σ(AB) is checked, not the singular subspaces.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        κ ≥ 1. Source: module docstring.

    Raises:
        NotAMinimizerError: if (A, B) is not a minimizer.
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on bad shapes, ranks, singular values or non-finite entries.
    """
    mu, L = extreme_eigenvalues(A, B, Z, singular_values=singular_values, rtol=rtol)
    return L / mu


def balanced_condition_number(singular_values: ArrayLike, r: int, shape: tuple[int, int] | None = None) -> float:
    """κ at a balanced minimizer, from the singular values of Z alone.

    Balanced factors have σ_i(A)² = σ_i(B)² = s_i, so the closed forms give 2s₁/(s_r − s_{r+1}) for
    r < min(a, b), 2s₁/s_r for r = min(a, b), a ≠ b, and s₁/s_r for r = a = b.

    Args:
        singular_values: (n,) descending singular values of Z; n ≥ min(r + 1, k).
        r: rank.
        shape: (a, b) of Z; None means a square Z with n = a = b.

    Returns:
        κ of every balanced minimizer.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on a bad rank, shape or list of singular values.
    """
    s, (a, b) = leading_singular_values(singular_values, r, shape)
    k = min(a, b)
    if r < k:
        return float(2 * s[0] / (s[r - 1] - s[r]))
    return float((1 if a == b else 2) * s[0] / s[r - 1])


def imbalanced_condition_number(
    singular_values: ArrayLike, r: int, ratio: float, shape: tuple[int, int] | None = None
) -> float:
    """κ at a minimizer with AᵀA = ρ·BBᵀ: what a prescribed ratio of the Gram matrices costs.

    Derived here. With t = ρ^{1/4} the gauge is tI times an orthogonal matrix, L = s₁τ, τ = t² + t⁻², and for
    r < k μ is the smallest eigenvalue of [[s_r/t², −s_{r+1}], [−s_{r+1}, t²s_r]], written as determinant over
    largest eigenvalue so that it does not cancel. ρ = 1 gives `balanced_condition_number`.

    Args:
        singular_values: (n,) descending singular values of Z; n ≥ min(r + 1, k).
        r: rank.
        ratio: ρ > 0.
        shape: (a, b) of Z; None means a square Z with n = a = b.

    Returns:
        κ of every minimizer with that ratio.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on a bad ratio, rank, shape or list of singular values.
    """
    if not 0 < ratio < np.inf:
        raise ValueError(f"ratio ρ = {ratio} must be positive and finite")
    s, (a, b) = leading_singular_values(singular_values, r, shape)
    k = min(a, b)
    alpha, beta = s[r - 1] * ratio**0.5, s[r - 1] / ratio**0.5  # σ_r(A)², σ_r(B)²
    L = s[0] * (ratio**0.5 + ratio**-0.5)
    if r == k:
        return float(L / (alpha + beta if a == b else beta if a > b else alpha))
    largest = (alpha + beta + np.hypot(alpha - beta, 2 * s[r])) / 2
    return float(L * largest / ((s[r - 1] - s[r]) * (s[r - 1] + s[r])))


def leading_singular_values(
    singular_values: ArrayLike, r: int, shape: tuple[int, int] | None
) -> tuple[Array, tuple[int, int]]:
    """Checked singular values of an (a, b) target, cut to min(a, b), with its shape."""
    s = as_singular_values(singular_values)
    a, b = shape if shape is not None else (len(s), len(s))
    k = min(a, b)
    check_rank(r, a, b)
    if len(s) < min(r + 1, k):
        raise ValueError(f"{len(s)} singular values given, but s_1 … s_{min(r + 1, k)} are needed")
    check_target(s[:k], r)
    return s[:k], (a, b)


def model2_condition_number(A: ArrayLike, B: ArrayLike, J: ArrayLike) -> float:
    """κ of Model 2's Hessian MᵀJᵀJM at an interpolating pair, past the r² zeros of the GL(r) orbit.

    Args:
        A: (a, r) factor of full column rank.
        B: (r, b) factor of full row rank.
        J: (n, ab) Jacobian of h at AB, row-major; must be injective on the tangent space of the rank-r
            matrices at AB, so n ≥ r(a + b − r).

    Returns:
        κ = (σ_max/σ_min)² of JM on the complement of the orbit.

    Raises:
        ValueError: on bad shapes or non-finite entries, or if JM has further zero singular values.
    """
    M = jacobian(A, B)
    r = np.shape(A)[1]
    outer = as_matrix("J", J)
    if outer.shape[1] != M.shape[0]:
        raise ValueError(f"J has {outer.shape[1]} columns, but AB has {M.shape[0]} entries")
    sigma = np.linalg.svd(outer @ M, compute_uv=False)
    rank = M.shape[1] - r * r
    if len(sigma) < rank or sigma[rank - 1] <= gap_rtol(M.shape[1]) * sigma[0]:
        raise ValueError(
            f"JM has fewer than d − r² = {rank} non-zero singular values: J is not injective on the tangent "
            "space at AB (or AB has rank < r), and κ would be infinite"
        )
    return float((sigma[0] / sigma[rank - 1]) ** 2)
