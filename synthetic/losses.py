"""The losses, batched, with gradients and with f − f* free of cancellation.

Parameters are a flat tuple of factors (A, B) or (A₁, B₁, A₂, B₂), A (…, a, r) and B (…, r, b);
leading dimensions are independent problems and broadcast. NumPy arrays and torch tensors work alike.

f − f* is never the difference of two losses: that stalls at 1e-16·f* and makes a converging iteration look
stuck. It is computed from quantities that vanish at the minimizer (`OneLayer`, `Weighted`), or f* = 0 (the other two).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from array_api_compat import array_namespace

from lorakappa.conditioning.checks import Array, as_problem, check_rank
from lorakappa.conditioning.factors import check_target
from lorakappa.synthetic.targets import low_rank

Params = tuple[Any, ...]


class Loss(Protocol):
    """What the engine needs of a loss."""

    @property
    def smoothness(self) -> Any:
        """(…) estimate of the largest Hessian eigenvalue at a balanced minimizer, for step-size grids."""

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f − f* (…) and the gradient with respect to each factor."""

    def factors(self, theta: Params) -> Params:
        """The factors (A, B, …) that the coordinates θ stand for."""

    def coordinates(self, factors: Params) -> Params:
        """The inverse of `factors`."""


LossT = TypeVar("LossT")


def move(loss: LossT, convert: Callable[[Any], Any]) -> LossT:
    """The same loss with every array converted, e.g. to torch tensors on a device."""
    changes: dict[str, Any] = {}
    for field in fields(loss):  # type: ignore[arg-type]
        value = getattr(loss, field.name)
        if isinstance(value, tuple):
            changes[field.name] = tuple(convert(entry) for entry in value)
        elif hasattr(value, "shape"):
            changes[field.name] = convert(value)
        elif is_dataclass(value):
            changes[field.name] = move(value, convert)
    return replace(loss, **changes)  # type: ignore[type-var]


def contiguous(M: Any) -> Any:
    """The same matrices with rows one after the other in memory, which NumPy's stacked products are faster with."""
    return np.ascontiguousarray(M) if isinstance(M, np.ndarray) else M


def flat(M: Any) -> Any:
    """(…, entries) of contiguous matrices."""
    return M.reshape((*M.shape[:-2], -1))


def _minus(E: Any, M: Any) -> Any:
    """E − M, in the memory of E where it has the shape."""
    if len(M.shape) > len(E.shape) or any(m not in (1, e) for e, m in zip(E.shape[::-1], M.shape[::-1], strict=False)):
        return E - M
    E -= M
    return E


def _half_square(E: Any) -> Any:
    """(…) ½‖E‖² of contiguous matrices."""
    return array_namespace(E).vecdot(flat(E), flat(E)) / 2


class _Plain:
    """Coordinates that are the factors themselves."""

    def factors(self, theta: Params) -> Params:
        return theta

    def coordinates(self, factors: Params) -> Params:
        return factors


@dataclass(frozen=True)
class OneLayer:
    """f(A, B) = ½‖Z − λAB‖_F² (with frozen weights W: Z = W* − W); λ = α/r is LoRA's scaling, not a penalty's λ.

    With E = λAB − Z_r and R = Z − Z_r = U_⊥ diag(s_⊥) V_⊥ᵀ,

        f − f* = ½‖E‖² − λ⟨R, AB⟩ = ½‖E‖² − λ Σ_l s_l ⟨(U_⊥ᵀA)_l, (BV_⊥)_l⟩,

    because f = ½‖R − E‖² and ⟨R, Z_r⟩ = 0; both factors of each term vanish at a minimizer, so rounding
    enters squared. The gradient with respect to A is λ(E − R)Bᵀ = λ(EBᵀ − U_⊥ diag(s_⊥)(BV_⊥)ᵀ), to B likewise; the
    first form takes two products less, and loses nothing where E has the rounding of Z already.

    *Error coordinates.* With an `origin` (A°, B°), a minimizer, θ = (dA, dB) is the displacement from it.
    Taking λA°B° = Z_r as exact (which changes Z by rounding), E = λ(dA·B + A°·dB), U_⊥ᵀA = U_⊥ᵀdA and
    BV_⊥ = dB·V_⊥ hold without any subtraction, so f − f* is accurate to a few epsilons relative to ‖dθ‖²
    however small it is: a trajectory that starts at 1e-8 from its limit can be followed over 30 decades.

    Attributes:
        Z_r: (…, a, b) best rank-r approximation of Z.
        U: (…, a, k − r) left singular vectors of R.
        tail: (…, k − r) singular values s_{r+1}, …, s_k.
        V: (…, b, k − r) right singular vectors of R.
        weighted_U: (…, a, k − r) those of U times the singular values.
        R: (…, a, b) the rest Z − Z_r.
        smoothness: (…) 2λs₁, the largest Hessian eigenvalue at a balanced minimizer.
        minimum: (…) f* = ½‖R‖².
        scaling: λ = α/r.
        origin: () or the minimizer (A°, B°) that θ is measured from.
    """

    Z_r: Any
    U: Any
    tail: Any
    V: Any
    weighted_U: Any
    R: Any
    smoothness: Any
    minimum: Any
    scaling: float = 1.0
    origin: Params = ()

    @classmethod
    def from_target(cls, Z: Array, r: int, *, scaling: float = 1.0) -> Self:
        """The loss of one or more targets.

        Args:
            Z: (…, a, b) finite targets.
            r: rank of AB.
            scaling: λ = α/r > 0.

        Returns:
            The loss, with leading dimensions those of Z.

        Raises:
            DegenerateTargetError: if some Z has rank < r or s_r = s_{r+1}.
            ValueError: if r > min(a, b), λ ≤ 0 or Z is not finite.
        """
        check_rank(r, *Z.shape[-2:])
        if not 0 < scaling < np.inf:
            raise ValueError(f"the scaling α/r must be positive and finite, but is {scaling}")
        if not np.isfinite(Z).all():
            raise ValueError("Z contains NaN or infinity")
        U, s, Vt = np.linalg.svd(Z, full_matrices=False)
        for values in s.reshape(-1, s.shape[-1]):
            check_target(values, r)
        return cls(
            Z_r=(U[..., :r] * s[..., None, :r]) @ Vt[..., :r, :],
            U=U[..., r:],
            tail=s[..., r:],
            V=contiguous(np.swapaxes(Vt[..., r:, :], -1, -2)),
            weighted_U=U[..., r:] * s[..., None, r:],
            R=(U[..., r:] * s[..., None, r:]) @ Vt[..., r:, :],
            smoothness=2 * scaling * s[..., 0],
            minimum=(s[..., r:] ** 2).sum(axis=-1) / 2,
            scaling=scaling,
        )

    def about(self, A: Any, B: Any) -> "OneLayer":
        """The same loss in error coordinates about a minimizer (A, B) with λAB = Z_r to rounding."""
        return replace(self, origin=(A, B))

    def factors(self, theta: Params) -> Params:
        """(A° + dA, B° + dB), or θ itself without an origin."""
        return tuple(o + x for o, x in zip(self.origin, theta, strict=True)) if self.origin else theta

    def coordinates(self, factors: Params) -> Params:
        """The inverse of `factors`."""
        return tuple(x - o for o, x in zip(self.origin, factors, strict=True)) if self.origin else factors

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f − f* (…) and its gradient (class docstring)."""
        dA, dB = theta
        A, B = self.factors(theta)
        lam = self.scaling
        xp = array_namespace(dA)
        E = dA @ B
        if self.origin:
            E = E + self.origin[0] @ dB
        E = E if lam == 1 else lam * E
        if not self.origin:
            E = _minus(E, self.Z_r)
        # s_l(U_⊥ᵀA)_l and (BV_⊥)_l, whose products are summed over l
        weighted_a, b = self.weighted_U.mT @ dA, dB @ self.V
        excess = _half_square(E)
        excess -= lam * xp.vecdot(flat(weighted_a), flat(contiguous(b.mT)))
        if self.origin:
            weighted_b = self.tail[..., None, :] * b
            g_A, g_B = E @ B.mT - self.U @ weighted_b.mT, A.mT @ E - weighted_a.mT @ self.V.mT
        else:
            E = _minus(E, self.R)
            g_A, g_B = E @ B.mT, A.mT @ E
        return excess, (g_A, g_B) if lam == 1 else (lam * g_A, lam * g_B)

    def pulled_back(self, residual: Any) -> Any:
        """∂⟨residual, λAB⟩/∂(AB) for a residual (…, a, b)."""
        return self.scaling * residual

    def traces(self, factors: Params) -> Params:
        """The partial traces (…, r, r) of the Hessian's blocks λ²I ⊗ BBᵀ and λ²AᵀA ⊗ I, λ²aBBᵀ and λ²bAᵀA."""
        A, B = factors
        return self.scaling**2 * A.shape[-2] * (B @ B.mT), self.scaling**2 * B.shape[-1] * (A.mT @ A)


@dataclass(frozen=True)
class Weighted(_Plain):
    """f(A, B) = ½‖C(AB − Z)D‖_F² with invertible C and D: the one-layer loss of CZD at (CA, BD), as a loss of A and B.

    Attributes:
        C: (…, a, a) weights of the rows.
        D: (…, b, b) weights of the columns.
        inner: the one-layer loss with target CZD.
        product: (…, a, b) AB at the minimizers.
        smoothness: (…) ‖C‖²‖BD‖² + ‖CA‖²‖D‖² in spectral norms at a balanced minimizer, an upper bound of L there.
    """

    C: Any
    D: Any
    inner: OneLayer
    product: Any
    smoothness: Any

    @classmethod
    def from_target(cls, Z: Array, C: Array, D: Array, r: int) -> Self:
        """The loss of one or more targets.

        Args:
            Z: (…, a, b) finite targets.
            C: (…, a, a) invertible weights.
            D: (…, b, b) invertible weights.
            r: rank of AB.

        Returns:
            The loss, with leading dimensions those of CZD.

        Raises:
            DegenerateTargetError: if some CZD has rank < r or its r-th and next singular value coincide.
            ValueError: if r > min(a, b), or something is not finite or singular.
        """
        inner = OneLayer.from_target(C @ Z @ D, r)
        try:
            product = np.linalg.solve(C, np.linalg.solve(D.mT, inner.Z_r.mT).mT)
        except np.linalg.LinAlgError:
            raise ValueError("C and D must be invertible for the minimizers to be isolated") from None
        # With α = ‖CA‖, β = ‖BD‖, x = C·dA, y = dB·D the Hessian's form is at most (β‖x‖ + α‖y‖)²: parts of x and y
        # outside the ranges of CA and BD have no cross term but 2⟨xy, R⟩, R the rest of CZD, and ‖R‖ ≤ αβ.
        U, s, Vt = np.linalg.svd(product, full_matrices=False)
        root = np.sqrt(s[..., :r])
        A, B = U[..., :r] * root[..., None, :], root[..., :, None] * Vt[..., :r, :]
        c, alpha, beta, d = (np.linalg.norm(M, 2, axis=(-2, -1)) for M in (C, C @ A, B @ D, D))
        return cls(C=C, D=D, inner=inner, product=product, smoothness=(c * beta) ** 2 + (alpha * d) ** 2)

    @property
    def minimum(self) -> Any:
        """(…) f*."""
        return self.inner.minimum

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f − f* (…) and its gradient: that of the inner loss, g_A and g_B, as Cᵀg_A and g_BDᵀ."""
        A, B = theta
        excess, (g_A, g_B) = self.inner.evaluate((self.C @ A, B @ self.D))
        return excess, (self.C.mT @ g_A, g_B @ self.D.mT)

    def pulled_back(self, residual: Any) -> Any:
        """∂⟨residual, CABD⟩/∂(AB) for a residual (…, a, b)."""
        return self.C.mT @ residual @ self.D.mT

    def traces(self, factors: Params) -> Params:
        """The partial traces ‖C‖²·BD(BD)ᵀ and ‖D‖²·(CA)ᵀCA, (…, r, r) each, of the Hessian's diagonal blocks."""
        CA, BD = self.C @ factors[0], factors[1] @ self.D
        rows, columns = (_half_square(M)[..., None, None] * 2 for M in (contiguous(self.C), contiguous(self.D)))
        return rows * (BD @ BD.mT), columns * (CA.mT @ CA)


@dataclass(frozen=True)
class TwoLayer(_Plain):
    """f = ½‖W* − (W₁ + A₁B₁)(W₂ + A₂B₂)‖_F² with W* inside the model, so f* = 0.

    Attributes:
        W1: (…, p, q) frozen weights of layer 1.
        W2: (…, q, s) frozen weights of layer 2.
        target: (…, p, s) matrix W*.
        smoothness: (…) as in `Loss`.
    """

    W1: Any
    W2: Any
    target: Any
    smoothness: Any

    @classmethod
    def from_updates(cls, W1: Array, W2: Array, Z1: Array, Z2: Array, r: int) -> Self:
        """The loss whose W* = (W₁ + Z₁ᵣ)(W₂ + Z₂ᵣ) is reached by updates of rank r.

        Args:
            W1: (…, p, q) frozen weights.
            W2: (…, q, s) frozen weights.
            Z1: (…, p, q) matrix whose best rank-r approximation is layer 1's update.
            Z2: (…, q, s) the same for layer 2.
            r: rank of both updates.

        Returns:
            The loss.

        Raises:
            ValueError: if r exceeds a layer's smaller dimension.
        """
        check_rank(r, *Z1.shape[-2:])
        check_rank(r, *Z2.shape[-2:])
        P, Q = W1 + low_rank(Z1, r), W2 + low_rank(Z2, r)
        norms = [np.linalg.norm(X, 2, axis=(-2, -1)) for X in (Z1, Z2, P, Q)]
        smoothness = 2 * np.maximum(norms[0] * norms[3] ** 2, norms[1] * norms[2] ** 2)
        return cls(W1=W1, W2=W2, target=P @ Q, smoothness=smoothness)

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f (…) and its gradient: with E = PQ − W*, EQᵀ pulled back to layer 1 and PᵀE to layer 2."""
        A1, B1, A2, B2 = theta
        P, Q = self.W1 + A1 @ B1, self.W2 + A2 @ B2
        E = P @ Q - self.target
        G1, G2 = E @ Q.mT, P.mT @ E
        return _half_square(E), (G1 @ B1.mT, A1.mT @ G1, G2 @ B2.mT, A2.mT @ G2)


@dataclass(frozen=True)
class MLP(_Plain):
    """Model 2, f = ½‖h(AB) − z‖_F², h(W) = C·tanh(WX): W is the first layer of a fixed smooth network.

    z = h(W*) for a W* of rank r, so the model interpolates and f* = 0. The Jacobian of h,
    C·diag(1 − tanh²)·(I ⊗ Xᵀ), is injective wherever C has full column rank and X full row rank.

    Attributes:
        C: (…, c, a) read-out.
        X: (…, b, n) inputs, one per column.
        z: (…, c, n) outputs to reach.
        smoothness: (…) 2s₁(W*)‖C‖²‖X‖², an upper bound of L at a balanced minimizer.
    """

    C: Any
    X: Any
    z: Any
    smoothness: Any

    @classmethod
    def from_teacher(cls, C: Array, X: Array, teacher: Array) -> Self:
        """The loss with z = h(W*), W* = `teacher` (…, a, b)."""
        norms = [np.linalg.norm(M, 2, axis=(-2, -1)) for M in (teacher, C, X)]
        z = C @ np.tanh(teacher @ X)
        return cls(C=C, X=X, z=z, smoothness=2 * norms[0] * norms[1] ** 2 * norms[2] ** 2)

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f (…) and its gradient, with ∇_W f = (Cᵀρ ∘ (1 − tanh²))Xᵀ, ρ = h(AB) − z."""
        A, B = theta
        hidden = array_namespace(A).tanh(A @ B @ self.X)
        residual = self.C @ hidden - self.z
        G = ((self.C.mT @ residual) * (1 - hidden * hidden)) @ self.X.mT
        return _half_square(residual), (G @ B.mT, A.mT @ G)


def polish(A: Array, B: Array, Z: Array, *, scaling: float = 1.0) -> tuple[Array, Array]:
    """The nearby minimizer (U_r S (BV_r)⁻¹/λ, BV_rV_rᵀ) of ½‖Z − λAB‖²: λAB becomes Z_r to rounding.

    Args:
        A: (a, r) factor close to a minimizer.
        B: (r, b) factor, with BV_r invertible.
        Z: (a, b) target.
        scaling: λ = α/r.

    Returns:
        The minimizer; it differs from (A, B) by O(‖λAB − Z_r‖).

    Raises:
        ValueError: on mismatched shapes, non-finite entries or a singular BV_r.
    """
    left, right, target = as_problem(A, B, Z)
    r = left.shape[1]
    U, s, Vt = np.linalg.svd(target, full_matrices=False)
    coefficients = right @ Vt[:r].T
    try:
        polished = np.linalg.solve(coefficients.T, (U[:, :r] * s[:r]).T).T / scaling
    except np.linalg.LinAlgError:
        raise ValueError("BV_r is singular: the pair is not close to a minimizer") from None
    return polished, coefficients @ Vt[:r]
