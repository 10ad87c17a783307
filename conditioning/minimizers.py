"""What a global minimizer of Model 1 has to say of its Hessian: L, μ, κ = L/μ and the residual's blocks.

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

Where √κ is so large that the SVD of F, A or B leaves its smallest singular values fewer than half of their digits,
these are taken from the inverse, as the reciprocals of its largest ones, or by Jacobi rotations
(`lapack.graded_singular_values`).

Everything is done with A, B and Z divided by powers of two (`scaling`), 2^p, 2^q and 2^{p+q}, so that κ is found
wherever it fits into float64, whatever L, μ and the entries do.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import (
    Array,
    NotAMinimizerError,
    OutOfRangeError,
    as_matrix,
    as_number,
    as_pair,
    check_rank,
)
from lorakappa.conditioning.factors import check_target, leading_singular_values
from lorakappa.conditioning.lapack import graded_singular_values
from lorakappa.conditioning.scaling import SMALLEST, Wide, WideArray, shifted, unit, wide_norm
from lorakappa.conditioning.tolerances import EPS, ILL_CONDITIONED, MINIMIZER_RTOL


@dataclass(frozen=True)
class Minimizer:
    """What the closed forms need of a minimizer: r×r matrices and singular values, nothing of size a or b.

    Attributes:
        a: rows of A.
        b: columns of B.
        s: singular values of Z, descending; (k,) or at least min(r + 1, k) of them. In units of 2^{p+q}.
        sigma_A: (r,) singular values of A, descending. In units of 2^p.
        sigma_B: (r,) singular values of B, descending. In units of 2^q.
        AtU: (r, r) matrix AᵀU_r = GᵀS^{1/2}. In units of 2^p.
        BV: (r, r) matrix BV_r = G⁻¹S^{1/2}. In units of 2^q.
        p: exponent of A, even; 0 unless its entries are extreme.
        q: exponent of B, likewise.
    """

    a: int
    b: int
    s: Array
    sigma_A: Array
    sigma_B: Array
    AtU: Array
    BV: Array
    p: int = 0
    q: int = 0

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
        """Largest eigenvalue, σ₁(A)² + σ₁(B)²; OutOfRangeError if it does not fit into float64."""
        return self.largest.fit("L")

    @property
    def mu(self) -> float:
        """Smallest non-zero eigenvalue; OutOfRangeError if it does not fit into float64."""
        return self.smallest.fit("μ")

    @property
    def kappa(self) -> float:
        """κ = L/μ; OutOfRangeError if it does not fit into float64."""
        return (self.largest / self.smallest).fit("κ")

    @property
    def largest(self) -> Wide:
        """L, of any size."""
        return self.sigma("A", 0).squared() + self.sigma("B", 0).squared()

    @cached_property
    def smallest(self) -> Wide:
        """μ, of any size (module docstring)."""
        if self.r < self.k:
            inverse, e = self.inverse_block(self.s[self.r : self.r + 1])
            return Wide(2.0) / Wide.of(float(np.linalg.norm(inverse[0], 2)), e).squared()
        if self.a == self.b:
            return self.sigma("A", -1).squared() + self.sigma("B", -1).squared()
        return self.sigma("B" if self.a > self.b else "A", -1).squared()

    def sigma(self, factor: Literal["A", "B"], i: int) -> Wide:
        """σ_{i+1} of A or B, of any size."""
        return Wide.of(self.sigma_A[i], self.p) if factor == "A" else Wide.of(self.sigma_B[i], self.q)

    def singular_value(self, i: int) -> Wide:
        """s_{i+1} of Z, of any size."""
        return Wide.of(self.s[i], self.p + self.q)

    def inverse_block(self, tail: Array) -> tuple[Array, int]:
        """2^{1/2}·F⁻¹ (module docstring) for each s_l in `tail`, as (n, 2r, 2r) matrices M and e: it is M·2^e."""
        s, ratio = self.s[: self.r, None], tail[:, None, None] / self.s[: self.r, None]
        e = min(self.p, self.q)
        left, right = shifted(self.AtU.T / s, e - self.q), shifted(self.BV.T / s, e - self.p)
        minus, plus = np.sqrt(1 - ratio), np.sqrt(1 + ratio)
        upper = np.concatenate([left / minus, right / minus], axis=-1)
        return np.concatenate([upper, np.concatenate([left / plus, -right / plus], axis=-1)], axis=-2), -e

    def residual_block(self, tail: Array) -> WideArray:
        """Eigenvalues of [[BBᵀ, −s_l I], [−s_l I, AᵀA]] for each s_l in `tail`.

        Args:
            tail: (n,) singular values s_l ≤ s_{r+1}.

        Returns:
            2nr eigenvalues, of any size.
        """
        ratio = tail[:, None, None] / self.s[: self.r]
        minus, plus = np.sqrt(1 - ratio), np.sqrt(1 + ratio)
        top = max(self.p, self.q)
        BV, AtU = shifted(self.BV, self.q - top), shifted(self.AtU, self.p - top)
        F = np.concatenate(
            [
                np.concatenate([BV * minus, BV * plus], axis=-1),
                np.concatenate([AtU * minus, -AtU * plus], axis=-1),
            ],
            axis=-2,
        )
        sigma = np.linalg.svd(F, compute_uv=False)
        well = sigma[:, -1] > ILL_CONDITIONED * sigma[:, 0]
        eigenvalues = WideArray.of(sigma[well], top).squared()
        if not well.all():
            inverses, e = self.inverse_block(tail)
            for i in np.flatnonzero(~well):
                direct, reciprocals, better = graded_singular_values(F[i], inverses[i])
                eigenvalues = eigenvalues.joined(WideArray.of(direct[~better], top).squared())
                eigenvalues = eigenvalues.joined(WideArray.of(2 / reciprocals[better], -e).squared())
        return eigenvalues.halved()


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
        OutOfRangeError: if the pair is so badly conditioned that float64 does not hold what is needed of it.
        ValueError: on bad shapes, ranks, singular values or non-finite entries.
    """
    left, right = as_pair(A, B)
    (a, r), b = left.shape, right.shape[1]
    check_rank(r, a, b)
    rtol = as_number("rtol", rtol)
    if not rtol >= 0:
        raise ValueError(f"rtol = {rtol} must be a number ≥ 0")
    if (Z is None) == (singular_values is None):
        raise ValueError("pass either the target Z or its singular values, not both and not neither")
    (left, p), (right, q) = unit(left), unit(right)

    # AB = Q_A (R_A R_Bᵀ) Q_Bᵀ: the SVD of the r×r core gives U_r = Q_A U and V_r = Q_B V without forming either
    R_A, R_Bt = _triangular_factor(left), _triangular_factor(right.T)
    U, s_product, Vt = np.linalg.svd(R_A @ R_Bt.T)
    if Z is not None:
        target = as_matrix("Z", Z)
        if target.shape != (a, b):
            raise ValueError(f"Z has shape {target.shape}, but AB has shape {(a, b)}")
        target, z = unit(target)
        U_Z, s, Vt_Z = np.linalg.svd(target, full_matrices=False)
        check_target(s, r, exponent=z)
    else:
        assert singular_values is not None
        s, _, z = leading_singular_values(singular_values, r, (a, b))
    # AB is in units of 2^{p+q}, Z in units of 2^z; compared in those of the larger
    top = max(p + q, z)
    if Z is not None:
        given = shifted(left, p + q - top), right
        difference = _low_rank_difference(*given, U_Z[:, :r] * shifted(s[:r], z - top), Vt_Z[:r])
    else:
        difference = shifted(s_product, p + q - top) - shifted(s[:r], z - top)
    distance = wide_norm(difference, top)
    if top - z > 1000:  # Z would be lost among the rounding errors of AB, even as a difference from 0
        distance = max(distance, Wide.of(EPS, top))
    allowed = Wide.of(rtol) * Wide.of(float(np.linalg.norm(s[:r])), z)
    if allowed < distance:
        raise NotAMinimizerError(
            f"AB is not the best rank-{r} approximation of Z: ‖AB − Z_r‖_F = {distance}, "
            f"allowed {allowed}. The closed forms hold at minimizers; use hessian(A, B, Z) elsewhere, or raise rtol"
        )
    pair = Minimizer(
        a=a,
        b=b,
        s=shifted(s, z - p - q),
        sigma_A=np.asarray(np.linalg.svd(R_A, compute_uv=False), dtype=np.float64),
        sigma_B=np.asarray(np.linalg.svd(R_Bt, compute_uv=False), dtype=np.float64),
        AtU=R_A.T @ U,  # AᵀQ_A U
        BV=R_Bt.T @ Vt.T,  # BQ_B V
        p=p,
        q=q,
    )
    return _with_small_singular_values(pair)


def _with_small_singular_values(pair: Minimizer) -> Minimizer:
    """The pair with those of σ(A) and σ(B) that the SVD left without digits taken from the inverses."""
    well = all(sigma[-1] > ILL_CONDITIONED * sigma[0] for sigma in (pair.sigma_A, pair.sigma_B))
    if well and pair.s[pair.r - 1] > SMALLEST:
        return pair
    with np.errstate(all="ignore"):
        s = pair.s[: pair.r, None]
        inverse_B, inverse_A = pair.AtU.T / s, pair.BV.T / s  # (BV)⁻¹ and (AᵀU)⁻¹
        if not (np.isfinite(inverse_A).all() and np.isfinite(inverse_B).all() and pair.s[pair.r - 1] > SMALLEST):
            raise OutOfRangeError(
                f"κ does not fit into float64: σ_{pair.r}(A)/σ_1(A) = {pair.sigma_A[-1] / pair.sigma_A[0]:.3g} and "
                f"σ_{pair.r}(B)/σ_1(B) = {pair.sigma_B[-1] / pair.sigma_B[0]:.3g} are too small"
            )
        return replace(pair, sigma_A=_graded(pair.AtU, inverse_A), sigma_B=_graded(pair.BV, inverse_B))


def _graded(M: Array, inverse: Array) -> Array:
    """(r,) singular values of M, which may be badly conditioned, and whose inverse is known."""
    direct, reciprocals, better = graded_singular_values(M, inverse)
    return np.where(better, 1 / reciprocals, direct)


def _triangular_factor(A: Array) -> Array:
    """R of A = QR; Q is not formed."""
    return np.asarray(np.linalg.qr(A, mode="r"), dtype=np.float64)


def _low_rank_difference(A: Array, B: Array, C: Array, D: Array) -> Array:
    """AB − CD up to orthogonal frames, without forming an (a, b) matrix: QR of the stacked factors."""
    R_left = _triangular_factor(np.hstack([A, -C]))
    R_right = _triangular_factor(np.vstack([B, D]).T)
    return np.asarray(R_left @ R_right.T)
