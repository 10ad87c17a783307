"""The curvature of a language model's loss in the LoRA factors of one layer, in several gauges.

With every other weight fixed, the mean cross-entropy of the labelled tokens is a function f of θ = (vec A, vec B).

- GGN: MᵀJᵀCJM, with M the Jacobian of AB, J that of the logits in AB and C the blocks (diag(p) − ppᵀ)/N of N tokens,
  the Hessian of the cross-entropy in the logits. It is the Fisher information and the paper's Model 2, C weighting J.
- Hessian: the GGN plus terms of the gradient (curvature of the network, and of the product AB). Indefinite in general.

Gauges. f(A', B') = f(φ(A', B')) with φ(A', B') = (A'T⁻¹, TB'), which is linear for a fixed T. So at (AT, T⁻¹B) the
gradient is φᵀg, the GGN φᵀGφ and the Hessian φᵀHφ: congruences, at stationary points and everywhere else. So the
network is differentiated once, at the trained pair; products computed afresh at the balanced pair check the rest
(`covariance_error`). It follows (derived here) that

- an orthogonal T keeps the spectrum: the three balanced gauges of `conditioning.balance` have the same one;
- the numbers of positive, negative and zero eigenvalues belong to the product AB, not to the gauge (Sylvester);
- the r² orbit directions v = (AX, −XB) lie in the kernel of the GGN. They lie in that of the Hessian only where the
  gradient (g_A, g_B) is 0: vᵀHv = −⟨g_A, AX²⟩ − ⟨g_B, X²B⟩, so the Hessian is given with the norm of the gradient;
- along the path T(t) = T^t, T the symmetric gauge's positive definite map, t = 0 trained and t = 1 balanced, λ_max and
  the trace of the GGN are log-convex in t. Each has one valley; whether it lies at t = 1 is what is measured.

What no gauge repairs: JᵀCJ has rank at most N·(V − 1) for a vocabulary of V, and usually much less. Where the GGN's
rank is below d − r², Model 2's assumption of an injective J fails, its κ is infinite in every gauge, and the smallest
eigenvalue above rounding belongs to the batch and to the tolerance. So κ_p = λ₁/λ_p over the p leading eigenvalues is
given for several p.

The derivatives are in `llm.curvature.layer_loss`, the gauges in `llm.curvature.gauges`, eigenvalues in
`llm.curvature.solvers`, the results in `llm.curvature.results`, their display in `llm.curvature.tables`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import EPS, psd_rtol
from lorakappa.llm.adapters.audit import audit_pair
from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.llm.curvature.gauges import GaugePath
from lorakappa.llm.curvature.lanczos import NoConvergenceError
from lorakappa.llm.curvature.layer_loss import LayerLoss, check_attention, differentiable
from lorakappa.llm.curvature.layers import check_layer, chosen_layers
from lorakappa.llm.curvature.progress import counted
from lorakappa.llm.curvature.results import CurvatureReport, GaugePoint, LayerCurvature, Spectrum, short_name
from lorakappa.llm.curvature.solvers import SOLVERS, Solver, dense_spectrum, expected_products, lanczos_spectrum

PATH = tuple(step / 4 for step in range(-4, 9))
"""Default values of t, −1 to 2, where matrices are dense; with Lanczos only 0 and 1."""

DENSE_LIMIT = 2500
"""Default number d of parameters up to which both matrices are computed whole: 2d products, 16d² bytes."""

DOUBLE_LIMIT = 100_000_000
"""Models of up to this many parameters are differentiated in float64."""


def curvature(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    layers: Sequence[str | int] | None = None,
    adapter: str | None = None,
    solver: Solver = "auto",
    dense_limit: int = DENSE_LIMIT,
    path: Sequence[float] | None = None,
    double: bool | None = None,
    chunk: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> CurvatureReport:
    """GGN and Hessian of the loss in the LoRA factors of some layers, trained, balanced and on the path through both.

    The model is left as it was. Attention must be "sdpa" (computed by its differentiable implementation) or "eager".

    Args:
        model: causal language model with LoRA layers.
        batch: input_ids (n, length), labels (n, length) with −100 outside the answer and, if there is padding,
            attention_mask (n, length). Labels are shifted by one here, as in transformers.
        layers: parts of names or indices into `lora_pairs` (also as strings of digits). None chooses those of rank r
            with the largest and the smallest κ bound.
        adapter: name of one adapter; None means all.
        solver: "dense" computes the matrices, exactly but for rounding; "lanczos" their extreme eigenvalues from
            products; "auto" the former up to `dense_limit`.
        dense_limit: largest d for dense matrices.
        path: values of t; 0 and 1 are added. None: `PATH` if dense, else only those two.
        double: whether to differentiate in float64; None: up to `DOUBLE_LIMIT` parameters. Otherwise in the model's
            own dtype, which limits what can be told from 0.
        chunk: number of products computed at once, which bounds memory.
        seed: of Lanczos' starts, Hutchinson's probes and the check's vector.
        progress: whether to show a bar on stderr.

    Returns:
        The report.

    Raises:
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: on unknown layers, layers with rank AB < r (no balanced pair), d above the limit, a malformed batch,
            no labelled token, NaN or infinity, an adapter that is not in use, attention without second derivatives, or
            if Lanczos does not converge.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be {', '.join(SOLVERS[:-1])} or {SOLVERS[-1]}, not {solver!r}")
    check_attention(model)
    pairs = chosen_layers(lora_pairs(model, adapter), layers)
    for pair in pairs:
        check_layer(pair, solver, dense_limit)
    if double is None:
        double = sum(parameter.numel() for parameter in model.parameters()) <= DOUBLE_LIMIT
    reports = []
    with differentiable(model), counted(len(pairs), show=progress) as products:
        weights = {
            name: parameter.detach().double() if double and parameter.is_floating_point() else parameter.detach()
            for name, parameter in model.named_parameters()
        }
        for pair in pairs:
            loss = LayerLoss(model, weights, pair, batch, chunk)
            dense = solver == "dense" or (solver == "auto" and loss.d <= dense_limit)
            expected = 2 * loss.d if dense else expected_products(loss.d, _counts(loss), len(_places(path, dense)))
            with products.of(short_name(pair.name), expected):
                reports.append(_Layer(loss, pair.name, dense, seed, products.advance).report(path))
    value = reports[0].trained.loss
    dtype = str(loss.point.dtype).removeprefix("torch.")
    return CurvatureReport(value, loss.tokens, loss.vocabulary, dtype, tuple(reports))


def _counts(loss: LayerLoss) -> dict[str, int]:
    """Numbers of leading eigenvalues that Lanczos looks for, by name."""
    r = loss.r
    return {n: p for n, p in {"r": r, "2r": 2 * r, "r²": r * r}.items() if p <= min(64, loss.d // 4)}


def _places(path: Sequence[float] | None, dense: bool) -> list[float]:
    """The values of t, ascending."""
    if path is None:
        path = PATH if dense else ()
    return sorted({0.0, 1.0, *map(float, path)})


class _Layer:
    """One layer while it is measured: NumPy float64 outside, the network's dtype inside."""

    def __init__(self, loss: LayerLoss, name: str, dense: bool, seed: int, advance: Callable[[int], None]) -> None:
        self.loss, self.name, self.dense, self.seed, self.advance = loss, name, dense, seed, advance
        self.x = loss.point.double().cpu().numpy()
        self.A, self.B = self._pair(self.x)
        self.gradient = self._numpy(loss.gradient(loss.point))
        if not self.gradient.any():
            raise ValueError(f"{name}: the loss does not depend on its factors; is this adapter active and not merged?")
        self.noise = float(torch.finfo(loss.point.dtype).eps)
        self.rtol = psd_rtol(loss.d) * self.noise / EPS
        self.gauges = GaugePath.through(self.A, self.B)
        self.products = {"ggn": loss.ggn_products, "hessian": loss.hessian_products}
        self.matrices = {key: self._matrix(key) for key in self.products} if dense else {}

    def report(self, path: Sequence[float] | None) -> LayerCurvature:
        """Measures every point of the path."""
        loss = self.loss
        r, d = loss.r, loss.d
        p = _counts(loss)
        if self.dense:
            values = {t: np.linalg.eigvalsh(self._congruent("ggn", t)) for t in (0.0, 1.0)}
            ranks = [int((w > self.rtol * w[-1]).sum()) for w in values.values()]
            p = {"r": r, "2r": 2 * r, "r²": r * r, "rank": min(ranks), "d − r²": d - r * r}
        points = tuple(self._point(t, p) for t in _places(path, self.dense))
        trained = next(point for point in points if point.t == 0)
        return LayerCurvature(
            name=self.name,
            shape=(loss.a, loss.b),
            r=r,
            d=d,
            solver="dense" if self.dense else "lanczos",
            p=p,
            rank_bound=min(loss.tokens * (loss.vocabulary - 1), d - r * r),
            covariance_error=self._covariance_error(),
            loss_change=max(abs(point.loss - trained.loss) for point in points),
            path=points,
        )

    def _point(self, t: float, p: dict[str, int]) -> GaugePoint:
        gauge = self.gauges.at(t)
        x = self.x if t == 0 else gauge.inverse(self.x[None])[0]
        A, B = self._pair(x)
        audit = audit_pair(torch.from_numpy(A), torch.from_numpy(B), self.name)
        with torch.no_grad():
            value = float(self.loss.value(self._tensor(x)))
        spectrum = self._dense_spectrum if self.dense else self._lanczos_spectrum
        return GaugePoint(
            t=t,
            loss=value,
            gradient_norm=float(np.linalg.norm(gauge.adjoint(self.gradient[None]))),
            smoothness=audit.sigma_A[0] ** 2 + audit.sigma_B[0] ** 2,
            kappa_bound=audit.kappa_bound,
            ggn=spectrum("ggn", t, p),
            hessian=spectrum("hessian", t, p),
        )

    def _matrix(self, key: str) -> Array:
        """The GGN or the Hessian at the trained pair, by products with the unit vectors."""
        identity = torch.eye(self.loss.d, dtype=self.loss.point.dtype, device=self.loss.point.device)
        rows = []
        for start in range(0, self.loss.d, self.loss.chunk):
            some = identity[start : start + self.loss.chunk]
            rows.append(self._numpy(self.products[key](self.loss.point, some)))
            self.advance(len(some))
        H = np.concatenate(rows)
        return (H + H.T) / 2

    def _congruent(self, key: str, t: float) -> Array:
        H = self.matrices[key] if t == 0 else self.gauges.at(t).congruence(self.matrices[key])
        return (H + H.T) / 2

    def _dense_spectrum(self, key: str, t: float, p: dict[str, int]) -> Spectrum:
        return dense_spectrum(self._congruent(key, t), p, rtol=self.rtol, leading=t in (0, 1))

    def _lanczos_spectrum(self, key: str, t: float, p: dict[str, int]) -> Spectrum:
        gauge = self.gauges.at(t)

        def products(V: Array) -> Array:
            mapped = self._tensor(gauge.forward(V))
            self.advance(len(V))
            return gauge.adjoint(self._numpy(self.products[key](self.loss.point, mapped)))

        try:
            return lanczos_spectrum(
                products,
                self.loss.d,
                p,
                rtol=self.rtol,
                accuracy=max(1e-8, self.noise),
                noise=self.noise,
                semidefinite=key == "ggn",
                leading=t in (0, 1),
                seed=self.seed,
            )
        except NoConvergenceError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _covariance_error(self) -> float:
        gauge = self.gauges.at(1.0)
        v = np.random.default_rng(self.seed).standard_normal((1, self.loss.d))
        balanced, there = self._tensor(gauge.inverse(self.x[None])[0]), self._tensor(v)
        mapped = self._tensor(gauge.forward(v))
        afresh = [self._numpy(products(balanced, there)) for products in self.products.values()]
        through = [gauge.adjoint(self._numpy(products(self.loss.point, mapped))) for products in self.products.values()]
        return max(float(np.linalg.norm(x - y) / np.linalg.norm(x)) for x, y in zip(afresh, through, strict=True))

    def _pair(self, x: Array) -> tuple[Array, Array]:
        loss = self.loss
        left, right = np.split(x, [loss.a * loss.r])
        return left.reshape(loss.a, loss.r), right.reshape(loss.r, loss.b)

    def _tensor(self, x: Array) -> Tensor:
        return torch.from_numpy(x).to(self.loss.point)

    def _numpy(self, x: Tensor) -> Array:
        result: Array = x.detach().double().cpu().numpy()
        if not np.isfinite(result).all():
            raise ValueError(f"{self.name}: the derivatives of the loss contain NaN or infinity")
        return result
