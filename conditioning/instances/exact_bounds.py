"""The bounds on κ in exact arithmetic, from what they are defined by rather than by the formulas of `bounds`.

Every number is an eigenvalue of a rational matrix, found from its characteristic polynomial, or a Rayleigh quotient of
the Hessian that the second differences of the loss give. So where `kappa_bounds` agrees with this module, as a test
demands, its formulas for λ, for the test vector and for Ostrowski's bound are right, not copied. What the poster states
as a formula, L/m and L/(m − s_{r+1}), is one here, too.
"""

from typing import TYPE_CHECKING

import flint

from lorakappa.conditioning.verification import exact

if TYPE_CHECKING:
    from lorakappa.conditioning.instances.exact_pair import ExactPair

Bounds = tuple[exact.Exact, exact.Exact]


def paper_bounds(x: "ExactPair") -> Bounds:
    """L/m and, where it says something, L/(m − s_{r+1}), with L = σ₁(A)² + σ₁(B)² and s_{k+1} = 0."""
    L, m = _largest(x), exact.minimum(x.gram_A[-1], x.gram_B[-1])
    s_next = x.s[x.shape.r] if x.shape.r < x.shape.k else flint.fmpq(0)
    return L / m, L / (m - s_next) if m > s_next else flint.arb("inf")


def corrected_bounds(x: "ExactPair") -> Bounds:
    """The bounds of the claims `model1-bounds-corrected-lower` and `…-upper`."""
    L = _largest(x)
    if x.shape.r == x.shape.k:
        kappa = L / _smallest_at_full_rank(x)
        return kappa, kappa
    smallest_gram = exact.minimum(x.gram_A[-1], x.gram_B[-1])
    lower = L / exact.minimum(smallest_gram, _rayleigh_quotient(x))
    return lower, L / exact.maximum(_pencil(x), _ostrowski(x))


def _largest(x: "ExactPair") -> exact.Exact:
    """L = σ₁(A)² + σ₁(B)²."""
    return x.gram_A[0] + x.gram_B[0]


def _smallest_at_full_rank(x: "ExactPair") -> exact.Exact:
    """μ for r = k: the smallest of the blocks that the Hessian has at this shape.

    They are σ_i(A)² + σ_j(B)², and where A has rows beyond k σ_j(B)², where B has columns beyond k σ_i(A)².
    """
    alpha, beta, k = x.gram_A[-1], x.gram_B[-1], x.shape.k
    smallest = alpha + beta
    if x.shape.a > k:
        smallest = exact.minimum(smallest, beta)
    if x.shape.b > k:
        smallest = exact.minimum(smallest, alpha)
    return smallest


def _rayleigh_quotient(x: "ExactPair") -> exact.Exact:
    """vᵀHv/vᵀv ≥ μ for the test direction: row r+1 of dA is (Gᵀe_r)ᵀ, column r+1 of dB is G⁻¹e_r.

    The kernel moves A and B in their own column and row space only, so v is orthogonal to it.
    """
    (a, b, r), inverse = (x.shape.a, x.shape.b, x.shape.r), x.G.inv()
    v = flint.fmpq_mat(x.shape.d, 1)
    for j in range(r):
        v[r * r + j, 0] = x.G[r - 1, j]
        v[a * r + j * b + r, 0] = inverse[j, r - 1]
    return (v.transpose() * x.hessian * v)[0, 0] / (v.transpose() * v)[0, 0]


def _pencil(x: "ExactPair") -> exact.Exact:
    """λ, the smallest eigenvalue of [[σ_r(B)², −s_{r+1}], [−s_{r+1}, σ_r(A)²]].

    It is the smallest one of the rational matrix [[BBᵀ⊗I, −s_{r+1}I], [−s_{r+1}I, I⊗AᵀA]]: BBᵀ⊗I and I⊗AᵀA commute, so
    that matrix splits into [[σ_j(B)², −s_{r+1}], [−s_{r+1}, σ_i(A)²]] for all i, j, which increase with both.
    """
    r, gram_A, gram_B = x.shape.r, x.A.transpose() * x.A, x.B * x.B.transpose()
    M = _coupled(r * r, x.s[r])
    for i in range(r):
        for j in range(r):
            for l in range(r):
                M[i * r + l, j * r + l] += gram_B[i, j]
                M[r * r + l * r + i, r * r + l * r + j] += gram_A[i, j]
    return exact.eigenvalues(M)[0]


def _ostrowski(x: "ExactPair") -> exact.Exact:
    """λ_min(TMTᵀ) ≥ λ_min(TTᵀ)·λ_min(M), M = [[S, −s_{r+1}I], [−s_{r+1}I, S]], T = diag(G⁻¹, Gᵀ)."""
    r, inverse = x.shape.r, x.G.inv()
    M = _coupled(r, x.s[r])
    for i in range(2 * r):
        M[i, i] += x.s[i % r]
    grams = inverse * inverse.transpose(), x.G.transpose() * x.G
    smallest = exact.minimum(*(exact.eigenvalues(gram)[0] for gram in grams))
    return smallest * exact.eigenvalues(M)[0]


def _coupled(n: int, s: flint.fmpq) -> flint.fmpq_mat:
    """(2n, 2n) matrix [[0, −sI], [−sI, 0]]."""
    M = flint.fmpq_mat(2 * n, 2 * n)
    for i in range(n):
        M[i, n + i] = M[n + i, i] = -s
    return M
