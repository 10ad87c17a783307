"""The statement that a matrix is 0, in floats and exactly."""

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, Shape, equal
from lorakappa.conditioning.verification import exact as exactly


def vanishes(matrix: Array, size: float, shape: Shape) -> Comparison:
    """The statement ‖matrix‖ = 0, relative to the size of what cancels in it, which is 0 only where all is."""
    return equal(float(np.linalg.norm(matrix)) / (size or 1.0), 0.0, claim_rtol(1.0, shape.d))


def vanishes_exactly(matrix: flint.fmpq_mat) -> Comparison:
    """The statement ‖matrix‖² = 0."""
    return equal(2 * exactly.half_square(matrix), flint.fmpq(0))
