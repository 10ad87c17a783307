"""What `llm.curvature.spectra` measures, as plain data: a report of layers, of points on their gauge paths, of spectra.

Whoever prints, draws or stores a report needs these names only. Their fields are those of the saved `curvature.json`.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one (d, d) matrix.

    Attributes:
        leading: largest ones, descending, at most `llm.curvature.solvers.LEADING`; empty but for the trained
            and the balanced pair.
        lambda_max: largest one.
        lambda_min: smallest one; 0 for a GGN by Lanczos, which has r² zero modes; an upper bound where Lanczos was not
            asked for it, as in the gauges beside the path.
        trace: their sum; Hutchinson's estimate by Lanczos.
        trace_error: standard error of that estimate; 0 where the sum is exact.
        tolerance: size up to which an eigenvalue counts as 0 (`tolerances.psd_rtol`, times the largest one).
        rank: number of those above it in size; None by Lanczos.
        negative: number of those below −tolerance; None by Lanczos.
        kappa: κ_p = λ₁/λ_p by the names of `LayerCurvature.p`; inf where λ_p does not exceed the tolerance.
    """

    leading: tuple[float, ...]
    lambda_max: float
    lambda_min: float
    trace: float
    trace_error: float
    tolerance: float
    rank: int | None
    negative: int | None
    kappa: dict[str, float]


@dataclass(frozen=True)
class GaugePoint:
    """The same adapted matrix AB, factored as (AT, T⁻¹B).

    Attributes:
        t: place on the path of the T^t; 0 is trained, 1 balanced. None beside the path.
        loss: mean cross-entropy, computed afresh from these factors.
        gradient_norm: norm of its gradient in these factors.
        smoothness: σ₁(A)² + σ₁(B)², the gauge's part of the paper's bound on λ_max.
        kappa_bound: smoothness/min(σ_r(A), σ_r(B))², the gauge's part of the paper's bound on κ.
        ggn: spectrum of the GGN.
        hessian: spectrum of the Hessian; None where it was not computed.
    """

    t: float | None
    loss: float
    gradient_norm: float
    smoothness: float
    kappa_bound: float
    ggn: Spectrum
    hessian: Spectrum | None


@dataclass(frozen=True)
class LayerCurvature:
    """One layer's curvature along its gauge path.

    Attributes:
        name: of the layer.
        shape: (a, b) of AB.
        r: number of columns of A.
        d: number r(a + b) of parameters.
        solver: "dense" or "lanczos".
        p: name → number of leading eigenvalues: "r", "2r", "r²", and for dense matrices "rank" (the smaller one of the
            trained and the balanced GGN) and "d − r²" (all but the gauge orbit: Model 2's κ).
        rank_bound: min(N·(V − 1), d − r²), above which no GGN's rank can be.
        covariance_error: largest relative difference between a product computed at the balanced pair and the
            congruence of the trained one's, of both matrices.
        loss_change: largest |loss − trained loss| on the path.
        path: by ascending t; 0 and 1 are among them.
        gauges: beside the path: "ilora" (BBᵀ = (r/a)AᵀA), "trace" (the GGN's smallest trace) and "lambda_max" (its
            smallest λ_max); the last two are missing where some direction costs nothing.
        lambda_max_bound: no gauge has a smaller λ_max of the GGN; 0 where there is no best one. By Lanczos it is right
            to rounding of the products.
    """

    name: str
    shape: tuple[int, int]
    r: int
    d: int
    solver: str
    p: dict[str, int]
    rank_bound: int
    covariance_error: float
    loss_change: float
    path: tuple[GaugePoint, ...]
    gauges: dict[str, GaugePoint]
    lambda_max_bound: float

    @property
    def all_gauges(self) -> dict[str, GaugePoint]:
        """The trained and the balanced pair, and what lies beside the path, by name."""
        return {"trained": self.trained, "balanced": self.balanced, **self.gauges}

    @property
    def trained(self) -> GaugePoint:
        """The pair as it was given."""
        return self.at(0.0)

    @property
    def balanced(self) -> GaugePoint:
        """The balanced pair of the symmetric gauge."""
        return self.at(1.0)

    def at(self, t: float) -> GaugePoint:
        """The point of the path at t.

        Raises:
            KeyError: if t is not on it.
        """
        for point in self.path:
            if point.t == t:
                return point
        raise KeyError(t)

    def lowest(self, measure: str) -> float:
        """The t of the path where a measure of the GGN ("lambda_max" or "trace") is smallest, nearest 1 if tied."""
        places = ((getattr(point.ggn, measure), abs(t - 1), t) for point in self.path if (t := point.t) is not None)
        return min(places)[2]


@dataclass(frozen=True)
class CurvatureReport:
    """The curvature of a model's loss on one batch, layer by layer.

    Attributes:
        loss: mean cross-entropy of the labelled tokens.
        tokens: number N of them.
        vocabulary: number V of logits of each.
        dtype: in which the network was differentiated.
        layers: in the order of the model.
    """

    loss: float
    tokens: int
    vocabulary: int
    dtype: str
    layers: tuple[LayerCurvature, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data for `shared.records.write_json`: what `figures.curvature` reads."""
        return asdict(self)


def short_name(name: str) -> str:
    """A layer's name without the prefixes and the suffix that all have."""
    return name.removeprefix("base_model.model.").removeprefix("model.").removesuffix(" (adapter default)")
