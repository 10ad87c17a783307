"""What the figures need of arrays: which there are, and along which axes; checked when they are read."""

from typing import Any

from numpy.typing import NDArray

AXES: dict[str, dict[str, str]] = {
    "manifold": {
        "x": "X",
        "y": "Y",
        "excess": "YX",
        "minimizers": "BN2",
        "kappa": "BN",
        "balanced": "M2",
        "starts": "S2",
        "paths": "ST2",
    },
    "kappa-histogram": {
        **dict.fromkeys(("kappa", "lower", "upper", "lower_corrected", "upper_corrected"), "N"),
        "kappa_limit": "L",
    },
    "convergence": {"excess": "TMGN", "step_sizes": "G", "best": "MN", "curves": "TMN"},
    "rates": {
        "rule": "N",
        **dict.fromkeys(("kappa", "bound", "limsup", "log_ratio", "uncertainty", "conclusive"), "N"),
    },
    "phase": {"gain": "DI", "interval": "DI2", "decays": "D", "init_stds": "I"},
    "settle": {
        "gammas": "G",
        **dict.fromkeys(("deviation", "imbalance_from_balanced", "drift_one_step", "drift_fixed_time"), "GN"),
        "rescale_curves": "TRN",
    },
    "duel": {"gain": "DHKM", "winner": "DHK", "margin": "DHK3", "decays": "D", "shapes": "H2"},
    "gauges": {"gain": "PQKM", "winner": "PQK", "margin": "PQK3", "conditions_c": "P", "conditions_d": "Q"},
    "ratios": {"log10": "HVN", "factors": "F", "powers": "P", "shapes": "H2"},
    "llm-compare": {
        "eval_steps": "T",
        **dict.fromkeys(("validation_loss", "seconds", "gap", "kappa_bound"), "BNT"),
    },
}
"""Axes of the arrays in NAME.npz that are always drawn: a letter stands for a length, the same for all arrays."""

TEXTS = {"rule"}
"""Arrays of texts; all others are numbers."""


def check_arrays(data: str, where: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Checks the arrays of a result.

    Args:
        data: name of the result.
        where: they come from, for messages.
        arrays: by name.

    Raises:
        ValueError: if one is missing, has other entries or axes than it should, or does not fit the others.
    """
    lengths: dict[str, tuple[int, str]] = {}
    for name, axes in AXES.get(data, {}).items():
        if name not in arrays:
            raise ValueError(f"{where} has no array {name!r}: it was made by another version or cut short")
        values = arrays[name]
        if (values.dtype.kind in "US") != (name in TEXTS) or values.dtype.kind == "c":
            raise ValueError(f"{where}: {name} holds {values.dtype} entries, not {_kind(name)}")
        if values.size == 0 and data == "llm-compare":  # no run finished: nothing to stack
            continue
        if values.ndim != len(axes):
            raise ValueError(f"{where}: {name} has the shape {values.shape}, but should have {len(axes)} axes")
        for length, letter in zip(values.shape, axes, strict=True):
            wanted, other = (int(letter), "it") if letter.isdigit() else lengths.setdefault(letter, (length, name))
            if length != wanted:
                raise ValueError(f"{where}: {name} has the shape {values.shape}, where {other} needs {wanted}")


def _kind(name: str) -> str:
    return "texts" if name in TEXTS else "real numbers"
