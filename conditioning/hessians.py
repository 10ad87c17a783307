"""Dense Hessians of the three losses, at any point, in row-major parameter order.

Writing W for the adapted matrix and M for the Jacobian of W in the parameters, the chain rule gives one
pattern throughout: Hess f = Mᵀ (Hess ℓ)(W) M + (second derivative of the product, weighted by ∇ℓ(W)).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_matrix, as_pair, as_problem, check_inner_dimension
from lorakappa.conditioning.factors import jacobian

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
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, target = as_problem(A, B, Z)
    M = jacobian(left, right)
    return M.T @ M + product_curvature(left @ right - target, left.shape[1])


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
        ValueError: on mismatched shapes or non-finite entries.
    """
    (A1, B1), (A2, B2) = as_pair(A1, B1), as_pair(A2, B2)
    W1, W2, target = as_matrix("W1", W1), as_matrix("W2", W2), as_matrix("target", target)
    for name, frozen, update in (("W1", W1, A1 @ B1), ("W2", W2, A2 @ B2)):
        if frozen.shape != update.shape:
            raise ValueError(f"{name} has shape {frozen.shape}, but its update AB has shape {update.shape}")
    P, Q = W1 + A1 @ B1, W2 + A2 @ B2
    check_inner_dimension(P, Q)
    if target.shape != (P.shape[0], Q.shape[1]):
        raise ValueError(f"target has shape {target.shape}, but the network computes {(P.shape[0], Q.shape[1])}")
    E = P @ Q - target

    outer = jacobian(P, Q)
    curvature = outer.T @ outer + product_curvature(E, P.shape[1])  # Hessian in (P, Q)
    M1, M2 = jacobian(A1, B1), jacobian(A2, B2)
    M = np.zeros((P.size + Q.size, M1.shape[1] + M2.shape[1]))
    M[: P.size, : M1.shape[1]], M[P.size :, M1.shape[1] :] = M1, M2
    H = M.T @ curvature @ M
    d1 = M1.shape[1]
    H[:d1, :d1] += product_curvature(E @ Q.T, A1.shape[1])
    H[d1:, d1:] += product_curvature(P.T @ E, A2.shape[1])
    return H


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
        ValueError: on mismatched shapes or non-finite entries, also of h's output.
    """
    import torch

    left, right = as_pair(A, B)
    W = torch.from_numpy(left @ right)
    z = torch.as_tensor(np.asarray(target, dtype=np.float64))
    output = h(W).detach()
    if output.shape != z.shape:
        raise ValueError(f"target has shape {tuple(z.shape)}, but h(AB) has shape {tuple(output.shape)}")
    residual = output - z
    J = model2_jacobian(left, right, h)
    inner = torch.func.hessian(lambda w: (residual * h(w)).sum())(W).reshape(W.numel(), W.numel())
    M = jacobian(left, right)
    gradient = (J.T @ residual.reshape(-1).numpy()).reshape(left.shape[0], right.shape[1])
    return M.T @ (J.T @ J + inner.numpy()) @ M + product_curvature(gradient, left.shape[1])


def model2_jacobian(A: ArrayLike, B: ArrayLike, h: "Callable[[torch.Tensor], torch.Tensor]") -> Array:
    """Jacobian J = J_h(AB) of Model 2, row-major on both sides.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        h: maps a float64 torch tensor (a, b) to a tensor of n entries.

    Returns:
        (n, ab) float64 matrix.

    Raises:
        ValueError: on mismatched shapes, or if h's Jacobian is not finite.
    """
    import torch

    left, right = as_pair(A, B)
    W = torch.from_numpy(left @ right)
    J: Array = torch.func.jacrev(h)(W).reshape(-1, W.numel()).detach().numpy()
    if not np.isfinite(J).all():
        raise ValueError("the Jacobian of h at AB contains NaN or infinity")
    return J
