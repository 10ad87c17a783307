"""The α of a layer in a tensor of its own: AB is multiplied with α/r."""

from collections.abc import Callable

from lorakappa.llm.adapters.formats.weights import Weights


def scale_by_alpha(weights: Weights, key: str) -> Callable[[int], float]:
    """Reads an α.

    Args:
        weights: the file.
        key: name of the tensor.

    Returns:
        α/r by r.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no finite number but 0, which some programs take for α = r.
    """
    if weights.shape(key).numel() != 1:
        raise ValueError(f"{key} in {weights.path} has shape {tuple(weights.shape(key))}; an α is one number")
    tensor = weights.read(key)
    if not bool(tensor.isfinite().all()) or tensor.is_complex():
        raise ValueError(f"{key} in {weights.path} is no number")
    alpha = float(tensor.item())
    if alpha == 0:
        raise ValueError(
            f"{key} in {weights.path} is 0: kohya's scripts read that as α = r, others as no update at all"
        )
    return lambda r: alpha / r
