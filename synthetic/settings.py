"""Which problems a simulation is about."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ProblemSettings:
    """Which paired problems are drawn.

    Attributes:
        loss: "one-layer", "two-layer" or "mlp".
        shape: (a, b) of the (first) adapted matrix; the second layer of "two-layer" is (b, b).
        rank: r.
        target: as in `targets.targets`; for the other two losses it draws the teacher's updates.
        start: as in `targets.starts`.
        init_std: standard deviation of the random starting entries.
        scaling: α/r, the factor of AB in the one-layer loss.
        seeds: number of paired instances.
        seed: root seed.
    """

    loss: str = "one-layer"
    shape: tuple[int, int] = (20, 20)
    rank: int = 4
    target: str = "gaussian"
    start: str = "lora"
    init_std: float = 1.0
    scaling: float = 1.0
    seeds: int = 8
    seed: int = 0

    def meta(self) -> dict[str, Any]:
        """JSON-like description."""
        return asdict(self)
