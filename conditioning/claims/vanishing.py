"""The statement that a matrix is 0, in floats and exactly."""

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances import Number, Pair
from lorakappa.conditioning.instances.arrays import Entries, square
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, Shape, equal
from lorakappa.conditioning.verification import exact as exactly


def vanishes(matrix: Array, size: float, shape: Shape) -> Comparison:
    """The statement ‖matrix‖ = 0, relative to the size of what cancels in it, which is 0 only where all is."""
    return equal(float(np.linalg.norm(matrix)) / (size or 1.0), 0.0, claim_rtol(1.0, shape.d))


def vanishes_for(x: Pair, matrix: Entries, size: Number, condition: float) -> Comparison:
    """The statement matrix = 0 at an instance of either arithmetic: relative to size in floats, exactly in rationals.

    Args:
        x: the instance.
        matrix: entries that should vanish.
        size: size of the terms that cancel in it.
        condition: what their rounding is multiplied by.
    """
    if not x.rounding:
        return equal(square(matrix), flint.fmpq(0))
    return equal(float(square(matrix)) ** 0.5 / (size or 1.0), 0.0, claim_rtol(condition, x.shape.d))


def vanishes_exactly(matrix: flint.fmpq_mat) -> Comparison:
    """The statement ‖matrix‖² = 0."""
    return equal(2 * exactly.half_square(matrix), flint.fmpq(0))
