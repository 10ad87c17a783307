"""Claims that workers can import: quick ones, ones that share an experiment, and one that fails."""

import os

from lorakappa.conditioning.verification import Measurement, measured_claim


def planted(id, *, fails=False, **options):
    @measured_claim(id, f"Planted {id}.", domain="none", trials=1, **options)
    def measure(trials, seed):
        """Rule: holds."""
        if fails:
            raise ValueError(f"{id} cannot be measured")
        return Measurement("holds", trials, None, f"process {os.getpid()}")

    return measure


IN_ORDER = (
    planted("quick"),
    planted("first-of-two", experiment="both", seconds=2.0),
    planted("long", seconds=3.5),
    planted("second-of-two", experiment="both", seconds=2.0),
)
CLAIMS = {claim.id: claim for claim in (*IN_ORDER, planted("failing", fails=True))}
