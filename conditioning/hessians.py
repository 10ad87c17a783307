"""Dense Hessians of the three losses, at any point, in row-major parameter order.

Writing W for the adapted matrix and M for the Jacobian of W in the parameters, the chain rule gives one
pattern throughout: Hess f = Mᵀ (Hess ℓ)(W) M + (second derivative of the product, weighted by ∇ℓ(W)).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import (
    Array,
    as_array,
    as_matrix,
    as_pair,
    as_problem,
    check_inner_dimension,
)
from lorakappa.conditioning.factors import jacobian
from lorakappa.conditioning.scaling import Wide, common_exponent, fit_array, layer_exponent, shifted, unit, unit_pair

if TYPE_CHECKING:
    import torch


def product_curvature(G: Array, r: int) -> Array:
    """Matrix of the quadratic form 2⟨G, dA·dB⟩: what the bilinearity of AB adds to a Hessian.

    Args:
        G: (a, b) weights, the gradient of the outer loss at W = AB.
        r: inner dimension.

    Returns:
        (d, d) symmetric matrix, zero but for the blocks H[A_ij, B_jl] = G_il.
    """
    a, b = G.shape
    d_A = a * r
    H = np.zeros((d_A + r * b, d_A + r * b))
    # rows (i, j) of vec A, columns (k, l) of vec B: δ_jk G_il
    H[:d_A, d_A:] = np.einsum("il,jk->ijkl", G, np.eye(r)).reshape(d_A, r * b)
    H[d_A:, :d_A] = H[:d_A, d_A:].T
    return H


def hessian(A: ArrayLike, B: ArrayLike, Z: ArrayLike) -> Array:
    """Hessian of ½‖Z − AB‖_F² at any point: MᵀM + the curvature of the product weighted by AB − Z.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target.

    Returns:
        (d, d) symmetric float64 matrix, d = r(a + b), parameters (vec A, vec B) row-major.

    Raises:
        OutOfRangeError: if its largest entry does not fit into float64.
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, target = as_problem(A, B, Z)
    e = layer_exponent(left, right, target)
    left, right, target = shifted(left, -e), shifted(right, -e), shifted(target, -2 * e)
    M = jacobian(left, right)
    H = M.T @ M + product_curvature(left @ right - target, left.shape[1])
    return fit_array("the Hessian", H, 2 * e)


def two_layer_hessian(
    A1: ArrayLike,
    B1: ArrayLike,
    A2: ArrayLike,
    B2: ArrayLike,
    W1: ArrayLike,
    W2: ArrayLike,
    target: ArrayLike,
) -> Array:
    """Hessian of the two-layer loss ½‖W* − (W₁ + A₁B₁)(W₂ + A₂B₂)‖_F² at any point.

    With P = W₁ + A₁B₁, Q = W₂ + A₂B₂ and E = PQ − W* the second derivative along (dP, dQ) is
    ‖dP·Q + P·dQ‖² + 2⟨E, dP·dQ⟩, pulled back by dP = M₁dθ₁, dQ = M₂dθ₂, plus 2⟨EQᵀ, dA₁·dB₁⟩ and
    2⟨PᵀE, dA₂·dB₂⟩. (Derived here.)

    Args:
        A1: (p, r₁) factor of layer 1.
        B1: (r₁, q) factor of layer 1.
        A2: (q, r₂) factor of layer 2.
        B2: (r₂, s) factor of layer 2.
        W1: (p, q) frozen weights of layer 1.
        W2: (q, s) frozen weights of layer 2.
        target: (p, s) matrix W*.

    Returns:
        (d, d) symmetric float64 matrix, parameters (vec A₁, vec B₁, vec A₂, vec B₂) row-major.

    Raises:
        OutOfRangeError: if its largest entry does not fit into float64.
        ValueError: on mismatched shapes or non-finite entries.
    """
    (A1, B1, W1, e1), (A2, B2, W2, e2) = _layer("W1", A1, B1, W1), _layer("W2", A2, B2, W2)
    target, t = unit(as_matrix("target", target))
    P, Q = W1 + A1 @ B1, W2 + A2 @ B2
    check_inner_dimension(P, Q)
    if target.shape != (P.shape[0], Q.shape[1]):
        raise ValueError(f"target has shape {target.shape}, but the network computes {(P.shape[0], Q.shape[1])}")
    outer = jacobian(P, Q)
    gauss_newton = outer.T @ outer
    # PQ is in units of 2^{2(e1 + e2)}; a target that is 2^900 times larger is all there is to see of the Hessian
    beyond = target.any() and t - 2 * (e1 + e2) > 900
    e = t if beyond else 2 * (e1 + e2)
    E = -target if beyond else P @ Q - shifted(target, t - e)
    curvature = (0 if beyond else gauss_newton) + product_curvature(E, P.shape[1])  # Hessian in (P, Q)
    M1, M2 = jacobian(A1, B1), jacobian(A2, B2)
    M = np.zeros((P.size + Q.size, M1.shape[1] + M2.shape[1]))
    M[: P.size, : M1.shape[1]], M[P.size :, M1.shape[1] :] = M1, M2
    H = M.T @ curvature @ M
    d1 = M1.shape[1]
    H[:d1, :d1] += product_curvature(E @ Q.T, A1.shape[1])
    H[d1:, d1:] += product_curvature(P.T @ E, A2.shape[1])
    size = Wide(0.0)
    for one, other, units in ((0, 0, 2 * e2), (1, 1, 2 * e1), (0, 1, e1 + e2), (1, 0, e1 + e2)):
        rows, columns = (slice(d1) if layer == 0 else slice(d1, None) for layer in (one, other))
        size = max(size, Wide.of(np.abs(H[rows, columns]).max(), e + units))
        H[rows, columns] = shifted(H[rows, columns], e + units)
    size.fit("the largest entry of the Hessian")
    return H


def _layer(name: str, A: ArrayLike, B: ArrayLike, W: ArrayLike) -> tuple[Array, Array, Array, int]:
    """A, B and the frozen weights W of a layer, in units of 2^e, 2^e and 2^2e."""
    (left, right), frozen = as_pair(A, B), as_matrix(name, W)
    if frozen.shape != (left.shape[0], right.shape[1]):
        update = (left.shape[0], right.shape[1])
        raise ValueError(f"{name} has shape {frozen.shape}, but its update AB has shape {update}")
    e = layer_exponent(left, right, frozen)
    return shifted(left, -e), shifted(right, -e), shifted(frozen, -2 * e), e


def model2_hessian(A: ArrayLike, B: ArrayLike, target: ArrayLike, h: "Callable[[torch.Tensor], torch.Tensor]") -> Array:
    """Hessian of Model 2's loss ½‖h(AB) − Z‖² at any point, for a differentiable torch function h.

    With W = AB, ρ = h(W) − Z and J the Jacobian of h: Mᵀ(JᵀJ + Hess⟨ρ, h⟩(W))M plus the curvature of the
    product weighted by the gradient Jᵀρ. At an interpolating point (ρ = 0) only MᵀJᵀJM is left.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        target: array of h's output shape.
        h: maps a float64 torch tensor (a, b) to a tensor of any shape; differentiated by torch.func.

    Returns:
        (d, d) symmetric float64 matrix, parameters (vec A, vec B) row-major.

    Raises:
        OutOfRangeError: if AB or the Hessian's largest entry does not fit into float64.
        TypeError: if h does not return a real torch tensor.
        ValueError: on mismatched shapes or non-finite entries, also of h's output and its derivatives.
    """
    import torch

    left, right = as_pair(A, B)
    W = _adapted(left, right)
    z = torch.as_tensor(as_array("target", target, what="an array of real numbers"))
    output = _output(h, W)
    if output.shape != z.shape:
        raise ValueError(f"target has shape {tuple(z.shape)}, but h(AB) has shape {tuple(output.shape)}")
    residual = output - z
    J, j = unit(model2_jacobian(left, right, h))
    hessians = torch.func.hessian(lambda w: (residual * h(w)).sum())(W).reshape(W.numel(), W.numel()).detach().numpy()
    inner, i = unit(_finite("the second derivatives of h at AB", hessians))
    left, right, e = unit_pair(left, right)
    M = jacobian(left, right)
    rho, n = unit(residual.reshape(-1, 1).numpy())
    gradient = (J.T @ rho).reshape(left.shape[0], right.shape[1])
    # in units of 2^x, 2^{2e + x} and 2^{j + n}, until they are added
    x = common_exponent((J, 2 * j), (inner, i))
    outer = shifted(J.T @ J, 2 * j - x) + shifted(inner, i - x)
    H, curvature = M.T @ outer @ M, product_curvature(gradient, left.shape[1])
    top = common_exponent((H, 2 * e + x), (curvature, j + n))
    return fit_array("the Hessian", shifted(H, 2 * e + x - top) + shifted(curvature, j + n - top), top)


def model2_jacobian(A: ArrayLike, B: ArrayLike, h: "Callable[[torch.Tensor], torch.Tensor]") -> Array:
    """Jacobian J = J_h(AB) of Model 2, row-major on both sides.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        h: maps a float64 torch tensor (a, b) to a tensor of n entries.

    Returns:
        (n, ab) float64 matrix.

    Raises:
        OutOfRangeError: if AB does not fit into float64.
        TypeError: if h does not return a real torch tensor.
        ValueError: on mismatched shapes, or if h's Jacobian is not finite.
    """
    import torch

    W = _adapted(*as_pair(A, B))
    _output(h, W)
    J = torch.func.jacrev(h)(W).reshape(-1, W.numel()).detach().to(torch.float64).numpy()
    return _finite("the Jacobian of h at AB", J)


def _adapted(A: Array, B: Array) -> "torch.Tensor":
    """AB."""
    import torch

    (left, p), (right, q) = unit(A), unit(B)
    W = left @ right
    return torch.from_numpy(fit_array("AB", W, p + q) if W.any() else W)


def _output(h: "Callable[[torch.Tensor], torch.Tensor]", W: "torch.Tensor") -> "torch.Tensor":
    """h(W) in float64, checked."""
    import torch

    output = h(W)
    if not isinstance(output, torch.Tensor) or output.is_complex():
        found = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise TypeError(f"h must return a torch tensor of real numbers, not {found}")
    output = output.detach().to(torch.float64)
    _finite("h(AB)", output.numpy())
    return output


def _finite(name: str, M: Array) -> Array:
    if not np.isfinite(M).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return M
