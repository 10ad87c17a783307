"""Which problems a simulation is about."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ProblemSettings:
    """Which paired problems are drawn.

    Attributes:
        loss: "one-layer", "two-layer", "mlp" or "weighted".
        shape: (a, b) of the (first) adapted matrix; the second layer of "two-layer" is (b, b).
        rank: r.
        target: as in `targets.targets`; for "two-layer" and "mlp" it draws the teacher's updates.
        start: as in `targets.starts`.
        init_std: standard deviation of the random starting entries.
        scaling: α/r, the factor of AB in the one-layer loss.
        seeds: number of paired instances.
        seed: root seed.
        weights: condition numbers of C and D in the weighted loss ½‖C(AB − Z)D‖².
        alignment: of their singular vectors, as in `targets.weights`.
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
    weights: tuple[float, float] = (10.0, 10.0)
    alignment: str = "random"

    def meta(self) -> dict[str, Any]:
        """JSON-like description; weights are of the weighted loss only."""
        everything = asdict(self)
        if self.loss != "weighted":
            del everything["weights"], everything["alignment"]
        return everything
