"""Minimizers recognized by their residual, without singular vectors of Z: the fast route to L, μ and κ.

`minimizers` decomposes Z and compares AB with Z_r. Here only E = Z − AB is looked at: AB = Z_r if and, for
s_r > s_{r+1}, only if AᵀE = 0, EBᵀ = 0 and σ₁(E) < σ_r(AB); then s_i(Z) = σ_i(AB) for i ≤ r and s_{r+1} = σ₁(E), of
which the square is one eigenvalue of EᵀE and comes out to EPS relatively. In floating point E is not quite orthogonal,
so an answer is given only where the following (derived here) shows that the other route accepts the pair, too, and has
the same L, μ and κ to a relative ρ = min(rtol, √EPS); everything else, and every error, is left to it.

Let X = AB, s_i = σ_i(X), t = σ₁(E) and γ = s_r − t > 0. Δ, the part of E in the columns of A or the rows of B, has
‖Δ‖_F² ≤ δ² = ‖AᵀE‖_F²/σ_r(A)² + ‖EBᵀ‖_F²/σ_r(B)². What is left of E is orthogonal to X on both sides and no larger
than E, so X is the best rank-r approximation of Z' = Z − Δ, whose gap is at least γ. Let 4δ ≤ ργ. Then:

1. By Weyl |s_i(Z) − s_i| ≤ δ for i ≤ r and |s_{r+1}(Z) − t| ≤ 2δ: rank and gap of Z are those of X to within ργ.
2. ‖Z_r − X‖_F ≤ (5/8)ρs_r ≤ rtol‖Z_r‖_F. For the derivative of Z ↦ Z_r maps the entries (i, j), (j, i) with i ≤ r < j,
   in singular bases, by s_i/(s_i² − s_j²)·[[s_i, s_j], [s_j, s_i]], whose norm is s_i/(s_i − s_j), and the others by 1
   or 0. So its norm is s_r/(s_r − s_{r+1}), at most (s_r + γ/4)/(γ/2) on the way from Z' to Z; times δ ≤ ργ/4. The
   other three eighths are for what the other route rounds.
3. μ = ‖F⁻¹‖⁻², and the row of F⁻¹ that belongs to s_i and the sign ∓ is (1 ∓ s_{r+1}/s_i)^{-1/2}/s_i times a row that
   holds neither. From (s_i, t) to those of Z its square changes by the factor (s_i ∓ t)/(s_i ∓ t)' · s_i/s_i', that is,
   relatively by at most 3δ/γ + δ/s_r ≤ ρ; μ and κ by no more. L is the same.

For r = k there is no tail: Z_r = Z, Δ = E and γ = s_r. With singular values in place of Z, δ = ‖σ(AB) − (s_1, …, s_r)‖,
which is what the other route compares, γ is their gap, and 3. holds with the given s_{r+1} on both sides.

Rounding counts as a part of δ: PRODUCT_RTOL·EPS·‖A‖_F‖B‖_F for forming AB, the triangular factors and the SVD of their
product, gap_rtol(k)·s₁ for the other route's SVD of Z, a·EPS·‖E‖_F‖A‖_F/σ_r(A) and b·EPS·‖E‖_F‖B‖_F/σ_r(B) for AᵀE and
EBᵀ. As σ_r(A) ≥ s_r/σ₁(B), the first term bounds σ₁(A)/σ_r(A) by 10⁶ or so: no singular value of A or B is small enough
for the other route to take it from an inverse. A relative error θ of AᵀA or BBᵀ (`lapack.TriangularFactor`) changes s_i
by θ relatively, and the block M whose smallest eigenvalue μ is by at most θ·diag(BBᵀ, AᵀA) ⪯ θM/(1 − t/s_r): L by θ and
μ by θs_r/γ; so 2θs_r is added to 4δ.
"""

from typing import Any, NamedTuple

import numpy as np

from lorakappa.conditioning.lapack import SINGLE, STACK, Decompositions
from lorakappa.conditioning.scaling import Wide
from lorakappa.conditioning.tolerances import EPS, MINIMIZER_RTOL, PRODUCT_RTOL, gap_rtol

MODERATE = 2.0**100
"""Norms of A and B up to which, or down to whose reciprocal, no power of two need be taken out."""


class Recognized(NamedTuple):
    """A minimizer, or a stack of N, in the numbers that the closed forms need; `minimizers.Minimizer` has them all.

    Attributes:
        on: decompositions, for one or for a stack.
        a: rows of A.
        b: columns of B.
        exponent: e if A, B are in units of 2^{e/2} and all else in those of 2^e; for one minimizer only.
        s: (…, r) singular values s_1, …, s_r.
        tail: (…) s_{r+1}; 0 for r = k.
        sigma_A: (…, r) singular values of A, descending.
        sigma_B: (…, r) singular values of B, descending.
        UtA: (…, r, r) U_rᵀA = S^{1/2}G.
        VtBt: (…, r, r) V_rᵀBᵀ = S^{1/2}G⁻ᵀ.
    """

    on: Decompositions
    a: int
    b: int
    exponent: int
    s: Any
    tail: Any
    sigma_A: Any
    sigma_B: Any
    UtA: Any
    VtBt: Any

    @property
    def r(self) -> int:
        """Rank of the factorization."""
        return self.s.shape[-1]

    @property
    def k(self) -> int:
        """min(a, b)."""
        return min(self.a, self.b)

    @property
    def kappa(self) -> Any:
        """κ = L/μ."""
        return self.largest / self.smallest

    @property
    def L(self) -> Any:
        """Largest eigenvalue; OutOfRangeError if it does not fit into float64."""
        return self._sized(self.largest, "L")

    @property
    def mu(self) -> Any:
        """Smallest non-zero eigenvalue; OutOfRangeError if it does not fit into float64."""
        return self._sized(self.smallest, "μ")

    def _sized(self, value: Any, name: str) -> Any:
        return Wide.of(value, self.exponent).fit(name) if self.exponent else value

    @property
    def largest(self) -> Any:
        """L in units of 2^e."""
        top_A, top_B = self.sigma("A", 0), self.sigma("B", 0)
        return top_A * top_A + top_B * top_B

    @property
    def smallest(self) -> Any:
        """μ in units of 2^e.

        For r < k it is 1/λ_max of F⁻ᵀF⁻¹. With X = U_rᵀA, Y = V_rᵀBᵀ and t = s_{r+1} that is [[XᵀWX, tXᵀWS⁻¹Y],
        [tYᵀS⁻¹WX, YᵀWY]], W = (S² − t²)⁻¹, since (BV_r)⁻¹ = S⁻¹X and (AᵀU_r)⁻¹ = S⁻¹Y.
        """
        r = self.r
        if r == self.k:
            low_A, low_B = self.sigma("A", -1), self.sigma("B", -1)
            alpha, beta = low_A * low_A, low_B * low_B
            return alpha + beta if self.a == self.b else beta if self.a > self.b else alpha
        dot, X, Y, s, t = self.on.dot, self.UtA, self.VtBt, self.s[..., None], self.on.column(self.tail)
        W = 1 / (s * s - t * t)
        WX = W * X
        block = np.empty((*X.shape[:-2], 2 * r, 2 * r))
        block[..., :r, :r] = dot(X.mT, WX)
        block[..., r:, :r] = dot(Y.mT, t / s * WX)
        block[..., r:, r:] = dot(Y.mT, W * Y)
        return 1 / self.on.largest_eigenvalue(block)

    def sigma(self, factor: str, i: int) -> Any:
        """σ_{i+1} of A or B, in units of 2^{e/2}."""
        return self.on.entry(self.sigma_A if factor == "A" else self.sigma_B, i)

    def singular_value(self, i: int) -> Any:
        """s_{i+1} of Z, i ≤ r, in units of 2^e."""
        return self.tail if i == self.r else self.on.entry(self.s, i)

    def only(self, chosen: Any) -> "Recognized":
        """Those of a stack that a mask chooses."""
        arrays = (M[chosen] for M in self[4:])
        return Recognized(self.on, self.a, self.b, self.exponent, *arrays)


def recognize(A: Any, B: Any, Z: Any, s: Any, rtol: float, exponent: int = 0) -> Recognized | None:
    """The minimizer (A, B), or None where it is left to `minimizers.analyse_minimizer` whether it is one.

    Args:
        A: (a, r) float64, 1 ≤ r ≤ k, of any entries.
        B: (r, b) likewise.
        Z: (a, b) target likewise, or None.
        s: singular values of Z in its place, descending, at least min(r + 1, k).
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.
        exponent: e if A and B come in units of 2^{e/2}, Z and s in those of 2^e.
    """
    norm_A, norm_B = SINGLE.norm(A), SINGLE.norm(B)
    if not _moderate(norm_A, norm_B):
        return None
    E = None if Z is None else Z - A.dot(B)
    norm_E = 0.0 if E is None else SINGLE.norm(E)
    if not norm_E < MODERATE**2 or (s is not None and not s[0] < MODERATE**2):
        return None
    found, accepted = _measured(A, B, E, s, (norm_A, norm_B, norm_E), rtol, exponent, SINGLE)
    return found if accepted else None


def recognize_stack(A: Any, B: Any, Z: Any, s: Any, rtol: float) -> tuple[Recognized | None, Any]:
    """The minimizers among N pairs, None if there is none, and an (N,) mask that says which they are.

    Args:
        A: (N, a, r) float64.
        B: (N, r, b).
        Z: (N, a, b) targets, or None.
        s: (N, n) singular values in their place.
        rtol: as for `recognize`.
    """
    with np.errstate(all="ignore"):
        E = None if Z is None else Z - A @ B
        norms = STACK.norm(A), STACK.norm(B), np.zeros(len(A)) if E is None else STACK.norm(E)
        accepted = _moderate(*norms[:2]) & (norms[2] < MODERATE**2)
        if not accepted.all():
            A, B, E, s = (None if M is None else M[accepted] for M in (A, B, E, s))
            norms = norms[0][accepted], norms[1][accepted], norms[2][accepted]
        if not len(A):
            return None, accepted
        found, within = _measured(A, B, E, s, norms, rtol, 0, STACK)
        assert found is not None
        accepted[accepted] = within
    return (found if within.all() else found.only(within)), accepted


def _moderate(norm_A: Any, norm_B: Any) -> Any:
    """Whether nothing over- or underflows that is made of two factors; NaN and infinity are not moderate."""
    return (norm_A > 1 / MODERATE) & (norm_A < MODERATE) & (norm_B > 1 / MODERATE) & (norm_B < MODERATE)


def _measured(
    A: Any, B: Any, E: Any, s: Any, norms: Any, rtol: float, exponent: int, on: Decompositions
) -> tuple[Recognized | None, Any]:
    """What is known if (A, B) is a minimizer, and whether it has been shown to be one (module docstring)."""
    (a, r), b = A.shape[-2:], B.shape[-1]
    k = min(a, b)
    dot, entry, sqrt = on.dot, on.entry, on.sqrt
    factor_A, factor_B = on.triangular(A), on.triangular(B.mT)
    U, s_product, Vt = on.svd(dot(factor_A.R, factor_B.R.mT))
    given = s_product if s is None else s[..., :r]
    norm_A, norm_B, norm_E = norms
    s_r, rounding = entry(given, -1), PRODUCT_RTOL * EPS * norm_A * norm_B
    if on is SINGLE and not rounding < s_r:
        return None, False  # before anything is divided by 0
    low_A, low_B = entry(factor_A.sigma, -1), entry(factor_B.sigma, -1)
    tail: Any = 0.0 * norm_A
    if s is not None:
        tail = entry(s, r) if r < k else tail
        delta = sqrt(((s_product - given) ** 2).sum(axis=-1))
    elif r < k:
        square = on.largest_eigenvalue(dot(E.mT, E) if b <= a else dot(E, E.mT))
        tail = sqrt(square * (square > 0))
        delta = sqrt((on.norm(dot(A.mT, E)) / low_A) ** 2 + (on.norm(dot(B, E.mT)) / low_B) ** 2)
    else:
        delta = norm_E
    rounding += gap_rtol(k) * entry(given, 0)
    rounding += EPS * norm_E * (a * norm_A / low_A + b * norm_B / low_B)
    relative_error = max(factor_A.relative_error, factor_B.relative_error)
    accepted = 4 * (delta + rounding) + 2 * relative_error * s_r <= min(rtol, MINIMIZER_RTOL) * (s_r - tail)
    UtA, VtBt = dot(U.mT, factor_A.R), dot(Vt, factor_B.R)
    found = Recognized(on, a, b, exponent, given, tail, factor_A.sigma, factor_B.sigma, UtA, VtBt)
    return found, accepted
