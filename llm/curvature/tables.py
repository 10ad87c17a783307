"""A report of `llm.curvature.spectra` for a terminal: tables, and notes on what their numbers do and do not mean.

The notes belong to the tables: a κ over leading eigenvalues, or a rank that the batch limits, is easily misread.
"""

from math import isfinite

from rich.table import Table

from lorakappa.llm.curvature.results import CurvatureReport, Spectrum, short_name
from lorakappa.llm.curvature.solvers import PROBES
from lorakappa.llm.curvature.summary import balancing, excesses


def curvature_tables(report: CurvatureReport) -> list[Table]:
    """GGN and Hessian, trained and balanced, a row per layer and pair; then a row per layer with every gauge."""
    counts = ("r", "2r", "r²", "rank")
    names = [f"κ_{name}" for name in counts]
    ggn = Table("layer", "GGN", "σ₁² + σ₁²", "κ bound", "λ_max", "trace", *names, box=None, pad_edge=False)
    hessian = Table("layer", "Hessian", "λ_max", "λ_min", "< 0", "trace", *names[:3], "‖g‖", box=None, pad_edge=False)
    for layer in report.layers:
        for label, point in (("trained", layer.trained), ("balanced", layer.balanced)):
            name = short_name(layer.name) if label == "trained" else f"  r = {layer.r}, d = {layer.d}"
            G, H = point.ggn, point.hessian
            ggn.add_row(
                name,
                label,
                f"{point.smoothness:.3g}",
                f"{point.kappa_bound:.4g}",
                f"{G.lambda_max:.4g}",
                _trace(G),
                *(_kappa(G, count) for count in counts),
            )
            if H is None:
                continue
            hessian.add_row(
                name,
                label,
                f"{H.lambda_max:.4g}",
                f"{H.lambda_min:.4g}",
                "–" if H.negative is None else str(H.negative),
                _trace(H),
                *(_kappa(H, count) for count in counts[:3]),
                f"{point.gradient_norm:.2g}",
            )
        if len(layer.path) > 2:
            lowest = (f"{layer.lowest(measure):g}" for measure in ("lambda_max", "trace"))
            ggn.add_row("", "lowest at t", "", "", *lowest)
    return [ggn, *([hessian] if hessian.row_count else []), *_standings(report)]


GAUGE_LABELS = {
    "trained": "trained",
    "balanced": "balanced",
    "ilora": "iLoRA's",
    "trace": "least trace",
    "lambda_max": "least λ_max",
}


def _standings(report: CurvatureReport) -> list[Table]:
    """λ_max, trace and κ_r of the GGN in every gauge; λ_max also over its bound, the trace over its least value."""
    labels = GAUGE_LABELS.values()
    largest = Table("layer", *(f"λ_max\n{label}" for label in labels), "no gauge\nbelow", "balanced\nover it")
    trace = Table("layer", *(f"trace\n{label}" for label in labels), "balanced\nover least")
    kappa = Table("layer", *(f"κ_r\n{label}" for label in labels))
    for table in (largest, trace, kappa):
        table.box, table.pad_edge = None, False
    for layer in report.layers:
        name, points = short_name(layer.name), layer.all_gauges
        spectra = [points[gauge].ggn if gauge in points else None for gauge in GAUGE_LABELS]
        bound, least = layer.lambda_max_bound, points["trace"].ggn.trace if "trace" in points else 0.0
        largest.add_row(
            name,
            *("–" if G is None else f"{G.lambda_max:.4g}" for G in spectra),
            *(("–", "–") if bound <= 0 else (f"{bound:.4g}", f"{layer.balanced.ggn.lambda_max / bound:.3g}")),
        )
        trace.add_row(
            name,
            *("–" if G is None else _trace(G) for G in spectra),
            "–" if least <= 0 else f"{layer.balanced.ggn.trace / least:.3g}",
        )
        kappa.add_row(name, *("–" if G is None else _kappa(G, "r") for G in spectra))
    return [largest, trace, kappa]


def curvature_notes(report: CurvatureReport) -> list[str]:
    """What the numbers of `curvature_tables` mean, and what they do not, one paragraph each."""
    notes = [
        f"Mean cross-entropy {report.loss:.6g} over {report.tokens} tokens, V = {report.vocabulary}, derivatives in "
        f"{report.dtype}. σ₁² + σ₁² and κ bound: the gauge's part of the paper's bounds on λ_max and κ. κ_p = λ₁/λ_p "
        "over the p leading eigenvalues. < 0: number of negative eigenvalues. ‖g‖: gradient norm; only where it is 0 "
        "does the Hessian have the r² zero modes of the gauge orbit."
    ]
    for layer in report.layers:
        kernel = layer.d - layer.r**2
        note = (
            f"{short_name(layer.name)}: the loss changes by {layer.loss_change:.1g} on the path; products computed "
            f"afresh at the balanced pair agree to {layer.covariance_error:.1g}. "
        )
        rank = layer.p.get("rank")
        if rank is None:
            note += (
                f"Lanczos: traces are estimates from {PROBES} probes ± standard error, the bound on λ_max is right to "
                f"rounding of the products. The GGN's rank, at most "
                f"{layer.rank_bound}, is unknown, and so is a κ down to its smallest eigenvalue."
            )
        elif rank < kernel:
            note += (
                f"The GGN has rank {rank} of d − r² = {kernel} above {layer.trained.ggn.tolerance:.1g}: the other "
                f"{kernel - rank} directions beyond the gauge orbit are zero modes of this batch, whose tokens allow a "
                f"rank of {layer.rank_bound}, or below rounding. Model 2's assumption of an injective Jacobian fails "
                "or cannot be told from failing: its κ is infinite or beyond rounding in every gauge, and κ_rank "
                "belongs to the data and the tolerance."
            )
        else:
            note += f"The GGN has full rank d − r² = {kernel}: κ_rank is Model 2's κ."
        notes.append(note)
    return notes + _summary(report)


MEASURE_LABELS = {
    "smoothness": "σ₁² + σ₁²",
    "kappa_bound": "the κ bound",
    "lambda_max": "λ_max of the GGN",
    "trace": "its trace",
    "kappa_r": "its κ_r",
    "kappa_2r": "its κ_2r",
    "hessian_lambda_max": "λ_max of the Hessian",
}


def _summary(report: CurvatureReport) -> list[str]:
    """What balancing lowers and what it raises, over all layers, and how far it is above the best gauge."""
    parts = [
        f"{MEASURE_LABELS[name]} {found.lower} of {found.layers}, up on {found.higher} (× {found.median:.3g} at the "
        f"median, {found.smallest:.3g} to {found.largest:.3g})"
        for name, found in balancing(report).items()
    ]
    notes = [f"Balancing lowers, in numbers of layers: {'; '.join(parts)}."]
    if over := excesses(report):
        parts = [
            f"{GAUGE_LABELS[gauge]} {found['lambda_max'].median:.3g} ({found['lambda_max'].largest:.3g}), "
            f"{found['trace'].median:.3g} ({found['trace'].largest:.3g})"
            for gauge, found in over.items()
        ]
        notes.append(
            "Over the least that any gauge can have, the bound for λ_max and the smallest trace, at the median of "
            f"layers (at most): {'; '.join(parts)}."
        )
    return notes


def _trace(spectrum: Spectrum) -> str:
    return f"{spectrum.trace:.4g}" + (f" ± {spectrum.trace_error:.1g}" if spectrum.trace_error else "")


def _kappa(spectrum: Spectrum, count: str) -> str:
    if count not in spectrum.kappa:
        return "–"
    return f"{spectrum.kappa[count]:.4g}" if isfinite(spectrum.kappa[count]) else "∞"
