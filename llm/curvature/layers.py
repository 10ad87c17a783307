"""Which layers are measured: those named, or the best and the worst conditioned, if they can be measured at all."""

from collections.abc import Sequence
from math import isfinite

from lorakappa.llm.adapters.audit import LayerAudit, audit_pair
from lorakappa.llm.adapters.pairs import LoraPair
from lorakappa.llm.curvature.solvers import Solver

DEFAULT_LAYERS = 4
"""Number of layers chosen if none are named: half with the largest and half with the smallest κ bound."""


def chosen_layers(pairs: list[LoraPair], layers: Sequence[str | int] | None) -> list[LoraPair]:
    """The named pairs, all, or by default the worst and the best conditioned, in the order of the model."""
    if layers in ("all", ["all"], ("all",)):
        return pairs
    if layers is None:
        audits = {i: _audited(pair) for i, pair in enumerate(pairs) if pair.experts == 1}
        full = [i for i in audits if isfinite(audits[i].kappa_bound_balanced)]
        if not full:
            raise ValueError("every product AB has rank < r (an untrained adapter?): there is no balanced pair")
        full.sort(key=lambda i: audits[i].kappa_bound)
        half = DEFAULT_LAYERS // 2
        return [pairs[i] for i in sorted({*full[:half], *full[-half:]})]
    if isinstance(layers, str) or not layers:
        raise ValueError("layers must be a non-empty list of parts of names or of indices")
    indices: set[int] = set()
    for layer in layers:
        if isinstance(layer, int) or layer.isdecimal():
            found = [int(layer)] if 0 <= int(layer) < len(pairs) else []
        else:
            found = [i for i, pair in enumerate(pairs) if layer in pair.name]
        if not found:
            raise ValueError(
                f"no layer {layer!r}; there are {len(pairs)}, from 0 = {pairs[0].name} to "
                f"{len(pairs) - 1} = {pairs[-1].name}"
            )
        indices.update(found)
    return [pairs[i] for i in sorted(indices)]


def check_layer(pair: LoraPair, solver: Solver, dense_limit: int) -> None:
    """Raises ValueError for a pair that cannot be measured so, before any long work."""
    if pair.experts > 1:
        raise ValueError(f"{pair.name}: the curvature of stacked experts is not supported; choose another layer")
    audit = _audited(pair)
    d = audit.r * sum(audit.shape)
    if solver == "dense" and d > dense_limit:
        raise ValueError(
            f"{pair.name} has d = {d} parameters, above dense_limit = {dense_limit}: raise it (two matrices of "
            f'{8 * d * d / 2**30:.2g} GiB and {d} products) or use solver="lanczos"'
        )
    if not isfinite(audit.kappa_bound_balanced):
        raise ValueError(
            f"{pair.name}: AB has rank {audit.rank} < r = {audit.r} (an untrained adapter?), so no pair with this "
            "product is balanced; choose another layer"
        )


def _audited(pair: LoraPair) -> LayerAudit:
    return audit_pair(pair.A, pair.B, pair.name)
