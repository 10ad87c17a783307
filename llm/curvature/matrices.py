"""A Hessian or GGN in any gauge: from the whole matrix, or from products with it, which all gauges share.

Both kinds give a spectrum, partial traces (`conditioning.gauge_certificate`), leading directions and a bound on λ_max
in every gauge. What is known by products keeps them: they are products with one matrix H in the given coordinates,
whatever the gauge they were made for. In another gauge Lanczos starts from what they know of it. And with an
orthonormal basis Q of their span and P = QᵀQ,

    H = PH + HP − PHP + (I − P)H(I − P),

where all terms but the last are known. The last one's partial traces are estimated by Hutchinson's probes, which do not
see the largest eigenvalues and so vary little (Hutch++, Meyer, Musco, Musco and Woodruff, SOSA 2021, with that span for
a random one; for partial traces, and so for the trace in every gauge, derived here).
"""

from collections.abc import Callable

import numpy as np

from lorakappa.conditioning import lower_bound_over_gauges
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.gauge_certificate import GaugeCertificate, Shape, lower_bound_from_factor, traced
from lorakappa.conditioning.tolerances import EPS
from lorakappa.llm.curvature.gauges import Gauge
from lorakappa.llm.curvature.lanczos import BLOCK, extremes
from lorakappa.llm.curvature.results import Spectrum
from lorakappa.llm.curvature.solvers import ACCURACY, PROBES, dense_spectrum, extreme_spectrum

INDEPENDENT = EPS**0.25
"""Share of a direction that must be new for its product to enter the basis: more would amplify rounding."""


class DenseMatrix:
    """A matrix that is known whole.

    Of a semidefinite one the columns F of FFᵀ with eigenvalues above rounding are kept: a batch sees few directions,
    and in any gauge the eigenvalues beside 0 are those of the smaller (ΦᵀF)ᵀ(ΦᵀF).

    Args:
        H: (d, d) symmetric.
        shape: (a, b, r).
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        semidefinite: whether it has no negative eigenvalue.
    """

    def __init__(self, H: Array, shape: Shape, rtol: float, *, semidefinite: bool) -> None:
        self.H, self.shape, self.rtol = H, shape, rtol
        self._F: Array | None = None
        if semidefinite:
            values, vectors = np.linalg.eigh(H)
            kept = values > EPS * values[-1]
            self._F = (vectors[:, kept] * np.sqrt(values[kept])).T

    def spectrum(self, gauge: Gauge, p: dict[str, int], *, leading: bool = False) -> Spectrum:
        """The spectrum in a gauge; κ_p for the named numbers of eigenvalues."""
        if self._F is None:
            H = gauge.congruence(self.H)
            values = np.asarray(np.linalg.eigvalsh((H + H.T) / 2), dtype=np.float64)
        else:
            F = gauge.adjoint(self._F)
            values = np.append(np.zeros(F.shape[1] - len(F)), np.asarray(np.linalg.eigvalsh(F @ F.T)))
        return dense_spectrum(np.asarray(values[::-1]), p, rtol=self.rtol, leading=leading)

    def products(self, gauge: Gauge, V: Array) -> Array:
        """(n, d) products with rows V in a gauge."""
        return gauge.adjoint(gauge.forward(V) @ self.H)

    def traces(self) -> tuple[Array, Array]:
        """The partial traces, (r, r) each."""
        return traced(self.H, self.shape)

    def factor(self, gauge: Gauge, count: int) -> Array:
        """(d, count) F: FFᵀ is the part of the `count` largest eigenvalues in a gauge, in the given coordinates."""
        assert self._F is not None
        F = gauge.adjoint(self._F)
        _, vectors = np.linalg.eigh(F @ F.T)
        return np.asarray(self._F.T @ vectors[:, -count:])

    def bound(self, F: Array, certificate: GaugeCertificate) -> float:
        """The lower bound on λ_max in every gauge, by products with the whole matrix."""
        return lower_bound_over_gauges(self.H, self.shape, certificate)


class ImplicitMatrix:
    """A matrix that is known by products.

    Args:
        products: (n, d) rows V to the rows HV.
        shape: (a, b, r).
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        noise: rounding of the products, relative to the largest eigenvalue.
        semidefinite: whether the smallest eigenvalue is known to be 0.
        seed: of Lanczos' start and of the probes.
    """

    def __init__(
        self,
        products: Callable[[Array], Array],
        shape: Shape,
        rtol: float,
        *,
        noise: float,
        semidefinite: bool,
        seed: int,
    ) -> None:
        self.shape, self.rtol, self.noise, self.semidefinite, self.seed = shape, rtol, noise, semidefinite, seed
        self.d = shape[2] * (shape[0] + shape[1])
        self._products = products
        self._known: tuple[Array, Array] = (np.empty((0, self.d)), np.empty((0, self.d)))
        self._new: list[tuple[Array, Array]] = []
        self._outside: list[tuple[Array, Array]] = []

    def spectrum(self, gauge: Gauge, p: dict[str, int], *, leading: bool = False) -> Spectrum:
        """The extreme eigenvalues in a gauge, κ_p for the named numbers of them, and the trace with its error.

        The smallest one is looked for only together with the leading ones.
        """
        smallest = leading and not self.semidefinite
        found = extremes(
            lambda V: self.products(gauge, V),
            self.d,
            max(p.values(), default=1),
            smallest=smallest,
            accuracy=max(ACCURACY, self.noise),
            noise=self.noise,
            seed=self.seed,
            start=self._start(gauge, smallest),
        )
        low = 0.0 if self.semidefinite else found.smallest
        return extreme_spectrum(found.leading, low, *self.trace(gauge), p, rtol=self.rtol, leading=leading)

    def products(self, gauge: Gauge, V: Array) -> Array:
        """(n, d) products with rows V in a gauge; they are kept."""
        X = gauge.forward(V)
        Y = self._products(X)
        self._new.append((X, Y))
        return gauge.adjoint(Y)

    def traces(self) -> tuple[Array, Array]:
        """The partial traces, (r, r) each, as far as the probes tell them."""
        known, outside = self._parts()
        H_A, H_B = (part + np.mean([pair[i] for pair in outside], axis=0) for i, part in enumerate(known))
        return _semidefinite(H_A), _semidefinite(H_B)

    def trace(self, gauge: Gauge) -> tuple[float, float]:
        """The trace in a gauge and its standard error."""
        known, outside = self._parts()
        weights = gauge.T_inv.T @ gauge.T_inv, gauge.T @ gauge.T.T
        inside, *rest = (
            sum(float((M * weight).sum()) for M, weight in zip(pair, weights, strict=True))
            for pair in (known, *outside)
        )
        rounding = self.d * max(EPS, self.noise / self.d**0.5) * abs(inside)
        return inside + float(np.mean(rest)), float(np.std(rest, ddof=1)) / PROBES**0.5 + rounding

    def factor(self, gauge: Gauge, count: int) -> Array:
        """(d, n) F with FFᵀ ⪯ H, to rounding, n ≤ count: of what the products know, the largest part in a gauge."""
        Q, Y = self._basis()
        C = Q @ Y.T
        values, vectors = np.linalg.eigh((C + C.T) / 2)
        kept = values > 8 * len(Q) * self.noise * values[-1]
        # Nyström's approximation
        F = (vectors[:, kept] / np.sqrt(values[kept])).T @ Y
        there = gauge.adjoint(F)
        _, vectors = np.linalg.eigh(there @ there.T)
        return np.asarray(F.T @ vectors[:, -count:])

    def bound(self, F: Array, certificate: GaugeCertificate) -> float:
        """The lower bound on λ_max in every gauge, by products with F."""
        return lower_bound_from_factor(F, self.shape, certificate)

    def _start(self, gauge: Gauge, smallest: bool) -> Array | None:
        """(BLOCK, d) directions for Lanczos in a gauge, from what is known; None where nothing is."""
        Q, Y = self._basis()
        if len(Q) < 2 * BLOCK:
            return None
        # Rayleigh–Ritz in the span of the known products, as they are in the gauge
        V = np.linalg.qr(gauge.adjoint(Y).T)[0].T
        X = gauge.forward(V)
        inside = (X @ Q.T) @ (Y @ X.T)
        _, vectors = np.linalg.eigh(inside + inside.T)
        chosen = vectors[:, [0, -1, -2, -3]] if smallest else vectors[:, -BLOCK:]
        return np.asarray(chosen.T @ V)

    def _basis(self) -> tuple[Array, Array]:
        """An orthonormal basis Q (m, d) of the directions multiplied so far, in rows, and QH."""
        Q, Y = self._known
        for X, HX in self._new:
            C = X @ Q.T
            rest, product = X - C @ Q, HX - C @ Y
            C = rest @ Q.T
            rest, product = rest - C @ Q, product - C @ Y
            U, sigma, Vt = np.linalg.svd(rest, full_matrices=False)
            kept = sigma > INDEPENDENT * np.linalg.norm(X, axis=1).max()
            Q = np.concatenate([Q, Vt[kept]])
            Y = np.concatenate([Y, (U[:, kept] / sigma[kept]).T @ product])
        self._known, self._new = (Q, Y), []
        return self._known

    def _parts(self) -> tuple[tuple[Array, Array], list[tuple[Array, Array]]]:
        """The partial traces of H but for (I − P)H(I − P), and estimates of that part's, one a probe.

        The probes are made once, for the span at that time; later products would only narrow what they see.
        """
        if not self._outside:
            Q, Y = self._basis()
            C = Q @ Y.T
            self._inside = self._partial(np.concatenate([Q, Q]), np.concatenate([Y, Y - C.T @ Q]))
            probes = np.random.default_rng([self.seed, 1]).choice([-1.0, 1.0], size=(PROBES, self.d))
            probes -= (probes @ Q.T) @ Q
            products = self._products(probes)
            products -= (products @ Q.T) @ Q
            self._outside = [self._partial(z[None], Hz[None]) for z, Hz in zip(probes, products, strict=True)]
        return self._inside, self._outside

    def _partial(self, X: Array, Y: Array) -> tuple[Array, Array]:
        """The partial traces of the symmetric part of XᵀY."""
        a, b, r = self.shape
        split = a * r
        A = np.einsum("nmi,nmj->ij", X[:, :split].reshape(-1, a, r), Y[:, :split].reshape(-1, a, r))
        B = np.einsum("nim,njm->ij", X[:, split:].reshape(-1, r, b), Y[:, split:].reshape(-1, r, b))
        return (A + A.T) / 2, (B + B.T) / 2


def _semidefinite(M: Array) -> Array:
    """The nearest matrix without negative eigenvalues, which an estimate may have."""
    values, vectors = np.linalg.eigh(M)
    return np.asarray(vectors * np.maximum(values, 0) @ vectors.T)
