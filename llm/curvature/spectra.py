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

Beside the path lie iLoRA's ratio and the best gauges for the GGN itself, of which the one for λ_max comes with a bound
that holds in every gauge (`llm.curvature.best_gauges`).

What no gauge repairs: JᵀCJ has rank at most N·(V − 1) for a vocabulary of V, and usually much less. Where the GGN's
rank is below d − r², Model 2's assumption of an injective J fails, its κ is infinite in every gauge, and the smallest
eigenvalue above rounding belongs to the batch and to the tolerance. So κ_p = λ₁/λ_p over the p leading eigenvalues is
given for several p.

The derivatives are in `llm.curvature.layer_loss`, whole GGNs in `llm.curvature.gauss_newton`, the gauges in
`llm.curvature.gauges`, matrices in any gauge in `llm.curvature.matrices`, the results in `llm.curvature.results`, their
display in `llm.curvature.tables`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import EPS, psd_rtol
from lorakappa.llm.adapters.audit import audit_pair
from lorakappa.llm.adapters.pairs import LoraPair, lora_pairs
from lorakappa.llm.curvature.best_gauges import best_gauges, ilora_gauge
from lorakappa.llm.curvature.gauges import Gauge, GaugePath
from lorakappa.llm.curvature.gauss_newton import as_groups, gauss_newton_matrices
from lorakappa.llm.curvature.lanczos import NoConvergenceError
from lorakappa.llm.curvature.layer_loss import LayerLoss, check_attention, differentiable
from lorakappa.llm.curvature.layers import DEFAULT_LAYERS, check_layer, chosen_layers
from lorakappa.llm.curvature.matrices import DenseMatrix, ImplicitMatrix
from lorakappa.llm.curvature.progress import Products, counted
from lorakappa.llm.curvature.results import CurvatureReport, GaugePoint, LayerCurvature, Spectrum, short_name
from lorakappa.llm.curvature.solvers import SOLVERS, Solver, expected_products

PATH = tuple(step / 4 for step in range(-4, 9))
"""Default values of t, −1 to 2, where matrices are dense and few; otherwise only 0 and 1."""

DENSE_LIMIT = 2500
"""Default number d of parameters up to which a GGN is computed whole, in 8d² bytes."""

GROUP_BYTES = 2**30
"""Of the whole GGNs that are computed at once."""

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
    hessian: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> CurvatureReport:
    """GGN and Hessian of the loss in the LoRA factors of some layers, trained, balanced and on the path through both.

    The model is left as it was. Attention must be "sdpa" (computed by its differentiable implementation) or "eager".

    Args:
        model: causal language model with LoRA layers.
        batch: input_ids (n, length), labels (n, length) with −100 outside the answer and, if there is padding,
            attention_mask (n, length). Labels are shifted by one here, as in transformers.
        layers: parts of names, indices into `lora_pairs` (also as strings of digits), or "all". None chooses those of
            rank r with the largest and the smallest κ bound.
        adapter: name of one adapter; None means all.
        solver: "dense" computes both matrices, exactly but for rounding, the Hessian by d products; "lanczos" their
            extreme eigenvalues from products; "auto" the GGN as the former up to `dense_limit`, the Hessian as the
            latter.
        dense_limit: largest d for dense matrices.
        path: values of t; 0 and 1 are added. None: `PATH` if dense and for at most `layers.DEFAULT_LAYERS` layers, else
            only those two.
        double: whether to differentiate in float64; None: up to `DOUBLE_LIMIT` parameters. Otherwise in the model's
            own dtype, which limits what can be told from 0.
        chunk: number of products computed at once, which bounds memory.
        hessian: whether to compute the Hessian, too.
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
    if path is None and len(pairs) > DEFAULT_LAYERS:
        path = ()
    if double is None:
        double = sum(parameter.numel() for parameter in model.parameters()) <= DOUBLE_LIMIT
    reports: list[LayerCurvature] = []
    with differentiable(model), counted(len(pairs), show=progress) as products:
        weights = {
            name: parameter.detach().double() if double and parameter.is_floating_point() else parameter.detach()
            for name, parameter in model.named_parameters()
        }
        whole = [pair for pair in pairs if solver == "dense" or (solver == "auto" and _size(pair) <= dense_limit)]
        groups = [[whole[i] for i in group] for group in as_groups([_size(pair) for pair in whole], GROUP_BYTES)]
        matrices: dict[str, Array] = {}
        for pair in pairs:
            loss = LayerLoss(model, weights, pair, batch, chunk)
            # a group's matrices are made when the first of its layers comes, and dropped with the last
            if groups and pair is groups[0][0]:
                group = groups.pop(0)
                label = f"{len(group)} GGN{'s' if len(group) > 1 else ''}"
                with products.of(label, 1, layers=0):
                    found = gauss_newton_matrices(model, weights, group, batch, chunk=chunk, advance=products.reached)
                matrices = {other.name: G for other, G in zip(group, found, strict=True)}
            layer = _Layer(loss, pair.name, matrices.pop(pair.name, None), seed)
            with products.of(short_name(pair.name), layer.expected(path, solver, hessian)):
                reports.append(layer.report(path, solver, hessian, products))
    value = reports[0].trained.loss
    dtype = str(loss.point.dtype).removeprefix("torch.")
    return CurvatureReport(value, loss.tokens, loss.vocabulary, dtype, tuple(reports))


def _size(pair: LoraPair) -> int:
    """Number of a pair's parameters."""
    return int(pair.A.numel() + pair.B.numel())


def _counts(r: int, d: int, solver: str) -> dict[str, int]:
    """Numbers of leading eigenvalues that Lanczos looks for, by name; r² of them only if it was asked for by name."""
    wanted = {"r": r, "2r": 2 * r, **({"r²": r * r} if solver == "lanczos" else {})}
    return {name: p for name, p in wanted.items() if p <= min(64, d // 4)}


def _places(path: Sequence[float] | None, dense: bool) -> list[float]:
    """The values of t, ascending."""
    if path is None:
        path = PATH if dense else ()
    return sorted({0.0, 1.0, *map(float, path)})


class _Layer:
    """One layer while it is measured: NumPy float64 outside, the network's dtype inside."""

    def __init__(self, loss: LayerLoss, name: str, G: Array | None, seed: int) -> None:
        self.loss, self.name, self.G, self.seed = loss, name, G, seed
        self.x = loss.point.double().cpu().numpy()
        self.A, self.B = self._pair(self.x)
        self.gradient = self._numpy(loss.gradient(loss.point))
        if not self.gradient.any():
            raise ValueError(f"{name}: the loss does not depend on its factors; is this adapter active and not merged?")
        self.noise = float(torch.finfo(loss.point.dtype).eps)
        self.rtol = psd_rtol(loss.d) * self.noise / EPS
        self.gauges = GaugePath.through(self.A, self.B)

    def expected(self, path: Sequence[float] | None, solver: Solver, hessian: bool) -> int:
        """About how many products the report takes."""
        p = _counts(self.loss.r, self.loss.d, solver)
        gauges = len(_places(path, self.G is not None)) + 3
        ggn = 0 if self.G is not None else expected_products(self.loss.d, p, gauges, semidefinite=True)
        if not hessian:
            return max(1, ggn)
        few = p if solver == "lanczos" else {}
        return ggn + (self.loss.d if solver == "dense" else expected_products(self.loss.d, few, 5, semidefinite=False))

    def report(self, path: Sequence[float] | None, solver: Solver, hessian: bool, products: Products) -> LayerCurvature:
        """Measures every point of the path, and what lies beside it."""
        loss = self.loss
        r, d = loss.r, loss.d
        ggn = self._ggn(products)
        H = self._hessian(solver, products) if hessian else None
        p = _counts(r, d, solver)
        if isinstance(ggn, DenseMatrix):
            ranks = [ggn.spectrum(self._at(t), {}).rank or 0 for t in (0.0, 1.0)]
            p = {"r": r, "2r": 2 * r, "r²": r * r, "rank": min(ranks), "d − r²": d - r * r}
        points = tuple(
            self._point(t, self._at(t), ggn, H, p, solver) for t in _places(path, isinstance(ggn, DenseMatrix))
        )
        beside, bound = self._beside(ggn, H, p, solver)
        trained = next(point for point in points if point.t == 0)
        return LayerCurvature(
            name=self.name,
            shape=(loss.a, loss.b),
            r=r,
            d=d,
            solver="dense" if isinstance(ggn, DenseMatrix) else "lanczos",
            p=p,
            rank_bound=min(loss.tokens * (loss.vocabulary - 1), d - r * r),
            covariance_error=self._covariance_error(ggn, H),
            loss_change=max(abs(point.loss - trained.loss) for point in [*points, *beside.values()]),
            path=points,
            gauges=beside,
            lambda_max_bound=bound,
        )

    def _beside(
        self,
        ggn: DenseMatrix | ImplicitMatrix,
        H: DenseMatrix | ImplicitMatrix | None,
        p: dict[str, int],
        solver: Solver,
    ) -> tuple[dict[str, GaugePoint], float]:
        """What lies beside the path, and the bound on λ_max."""
        gauges = {"ilora": ilora_gauge(self._at(1.0), self.loss.r)}
        best = best_gauges(ggn, lambda gauge: self._spectrum(ggn, gauge, {}).lambda_max)
        if best is not None:
            gauges |= {"trace": best.smallest_trace, "lambda_max": best.smallest_lambda_max}
        points = {name: self._point(None, gauge, ggn, H, p, solver) for name, gauge in gauges.items()}
        return points, 0.0 if best is None else best.lower_bound

    def _at(self, t: float) -> Gauge:
        if t == 0:
            return Gauge(np.eye(self.loss.r), np.eye(self.loss.r), self.loss.a)
        return self.gauges.at(t)

    def _point(
        self,
        t: float | None,
        gauge: Gauge,
        ggn: DenseMatrix | ImplicitMatrix,
        H: DenseMatrix | ImplicitMatrix | None,
        p: dict[str, int],
        solver: Solver,
    ) -> GaugePoint:
        x = self.x if t == 0 else gauge.inverse(self.x[None])[0]
        A, B = self._pair(x)
        audit = audit_pair(torch.from_numpy(A), torch.from_numpy(B), self.name)
        with torch.no_grad():
            value = float(self.loss.value(self._tensor(x)))
        pairs, spectrum = t in (0, 1), None
        if isinstance(H, DenseMatrix):
            spectrum = self._spectrum(H, gauge, p, leading=pairs)
        elif H is not None and (pairs or t is None):
            # both ends for the two pairs, λ_max beside the path: an indefinite matrix has no use for κ
            few = _counts(self.loss.r, self.loss.d, solver) if pairs and solver == "lanczos" else {}
            spectrum = self._spectrum(H, gauge, few, leading=pairs)
        return GaugePoint(
            t=t,
            loss=value,
            gradient_norm=float(np.linalg.norm(gauge.adjoint(self.gradient[None]))),
            smoothness=audit.sigma_A[0] ** 2 + audit.sigma_B[0] ** 2,
            kappa_bound=audit.kappa_bound,
            ggn=self._spectrum(ggn, gauge, p, leading=pairs),
            hessian=spectrum,
        )

    def _spectrum(
        self, matrix: DenseMatrix | ImplicitMatrix, gauge: Gauge, p: dict[str, int], *, leading: bool = False
    ) -> Spectrum:
        try:
            return matrix.spectrum(gauge, p, leading=leading)
        except NoConvergenceError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _ggn(self, products: Products) -> DenseMatrix | ImplicitMatrix:
        shape = self.loss.a, self.loss.b, self.loss.r
        if self.G is None:
            return self._implicit("ggn", products)
        if not np.isfinite(self.G).all():
            raise ValueError(f"{self.name}: the derivatives of the loss contain NaN or infinity")
        return DenseMatrix(self.G, shape, self.rtol, semidefinite=True)

    def _hessian(self, solver: Solver, products: Products) -> DenseMatrix | ImplicitMatrix:
        shape = self.loss.a, self.loss.b, self.loss.r
        if solver != "dense":
            return self._implicit("hessian", products)
        identity = torch.eye(self.loss.d, dtype=self.loss.point.dtype, device=self.loss.point.device)
        rows = []
        for some in torch.split(identity, self.loss.chunk):
            rows.append(self._numpy(self.loss.hessian_products(self.loss.point, some)))
            products.advance(len(some))
        H = np.concatenate(rows)
        return DenseMatrix((H + H.T) / 2, shape, self.rtol, semidefinite=False)

    def _implicit(self, key: str, products: Products) -> ImplicitMatrix:
        loss = self.loss
        of = loss.ggn_products if key == "ggn" else loss.hessian_products

        def multiplied(V: Array) -> Array:
            products.advance(len(V))
            return self._numpy(of(loss.point, self._tensor(V)))

        return ImplicitMatrix(
            multiplied, (loss.a, loss.b, loss.r), self.rtol, noise=self.noise, semidefinite=key == "ggn", seed=self.seed
        )

    def _covariance_error(self, ggn: DenseMatrix | ImplicitMatrix, H: DenseMatrix | ImplicitMatrix | None) -> float:
        """Of products at the balanced pair: those by its own derivatives against those by the trained one's."""
        gauge = self._at(1.0)
        v = np.random.default_rng(self.seed).standard_normal((1, self.loss.d))
        balanced, there = self._tensor(gauge.inverse(self.x[None])[0]), self._tensor(v)
        errors = []
        for matrix, products in ((ggn, self.loss.ggn_products), (H, self.loss.hessian_products)):
            if matrix is not None:
                afresh, through = self._numpy(products(balanced, there)), matrix.products(gauge, v)
                errors.append(float(np.linalg.norm(afresh - through) / np.linalg.norm(afresh)))
        return max(errors)

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
