"""A report of `llm.curvature.spectra` for a terminal: two tables, and notes on what their numbers do and do not mean.

The notes belong to the tables: a κ over leading eigenvalues, or a rank that the batch limits, is easily misread.
"""

from math import isfinite

from rich.table import Table

from lorakappa.llm.curvature.results import CurvatureReport, Spectrum, short_name
from lorakappa.llm.curvature.solvers import PROBES


def curvature_tables(report: CurvatureReport) -> list[Table]:
    """GGN and Hessian, one row per layer and gauge, and where on the path the GGN's λ_max and trace are lowest."""
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
    return [ggn, hessian]


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
                f"Lanczos: traces are estimates from {PROBES} probes ± standard error. The GGN's rank, at most "
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
    return notes


def _trace(spectrum: Spectrum) -> str:
    return f"{spectrum.trace:.4g}" + (f" ± {spectrum.trace_error:.1g}" if spectrum.trace_error else "")


def _kappa(spectrum: Spectrum, count: str) -> str:
    if count not in spectrum.kappa:
        return "–"
    return f"{spectrum.kappa[count]:.4g}" if isfinite(spectrum.kappa[count]) else "∞"
