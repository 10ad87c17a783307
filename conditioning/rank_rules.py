"""How many singular values to keep, and what their rest amounts to.

kohya's `resize_lora.py` calls two of the measures sv_fro and sv_cumulative and asks for the share that is kept, q:
sv_fro = q is an energy of q², that is an error of at most (1 − q²)^{1/2}; sv_cumulative = q is a nuclear share of q;
sv_ratio = t is a spectral error of at most 1/t.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorakappa.conditioning.checks import as_singular_values, check_integer

SHARES = ("energy", "nuclear")
ERRORS = ("error", "spectral_error")


@dataclass(frozen=True)
class RankRule:
    """The smallest k that meets every measure given here, but never more than `rank`, and at least 1.

    Attributes:
        rank: largest k.
        energy: least Σ_{i≤k} s_i² / Σ s_i², a share of ‖AB‖_F².
        nuclear: least Σ_{i≤k} s_i / Σ s_i, a share of the nuclear norm.
        error: largest ‖AB − (AB)_k‖_F / ‖AB‖_F.
        spectral_error: largest ‖AB − (AB)_k‖₂ / ‖AB‖₂ = s_{k+1}/s_1.

    Raises:
        TypeError: if `rank` is no integer or a measure no number.
        ValueError: if nothing is given, `rank` is not positive, a share does not lie in (0, 1] or an error in [0, 1).
    """

    rank: int | None = None
    energy: float | None = None
    nuclear: float | None = None
    error: float | None = None
    spectral_error: float | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in vars(self).values()):
            raise ValueError("say how far: rank, energy, nuclear, error or spectral_error")
        if self.rank is not None:
            check_integer("rank", self.rank)
            if self.rank < 1:
                raise ValueError(f"rank = {self.rank} must be at least 1")
        for name in SHARES + ERRORS:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, not {value!r}")
            if name in SHARES and not 0 < value <= 1:
                raise ValueError(f"{name} = {value:g} is a share to keep: it must lie in (0, 1]")
            if name in ERRORS and not 0 <= value < 1:
                raise ValueError(f"{name} = {value:g} is a relative error: it must lie in [0, 1)")

    def choose(self, sigma: Any) -> int:
        """The k for singular values of any common scale; 1 if they are 0.

        Args:
            sigma: r values, descending.

        Returns:
            1 ≤ k ≤ r.

        Raises:
            ValueError: unless they are finite, not negative and descending.
        """
        s: list[float] = as_singular_values(sigma).tolist()
        wanted = [1] if s[0] == 0 or self._only_rank else self._least(s)
        k = len(s) if self._only_rank else max(wanted)
        return k if self.rank is None else min(k, self.rank)

    @property
    def _only_rank(self) -> bool:
        return all(getattr(self, name) is None for name in SHARES + ERRORS)

    def _least(self, s: list[float]) -> list[int]:
        """The least k for each measure."""
        ks = range(1, len(s) + 1)
        error = 0.0 if self.energy is None else math.sqrt(1 - self.energy)
        found = [1]
        for most in (self.error, None if self.energy is None else error):
            if most is not None:
                found.append(next(k for k in ks if truncation_error(s, k) <= most))
        if self.nuclear is not None:
            total = math.fsum(s)
            found.append(next(k for k in ks if math.fsum(s[k:]) <= (1 - self.nuclear) * total))
        if self.spectral_error is not None:
            found.append(next(k for k in ks if k == len(s) or s[k] <= self.spectral_error * s[0]))
        return found


def truncation_error(sigma: Sequence[float], k: int) -> float:
    """(Σ_{i>k} s_i² / Σ s_i²)^{1/2}: the relative error in ‖·‖_F of the best approximation of rank k; 0 of 0.

    Args:
        sigma: singular values, descending.
        k: rank.
    """
    if not sigma[0]:
        return 0.0
    return math.hypot(*(s / sigma[0] for s in sigma[k:])) / math.hypot(*(s / sigma[0] for s in sigma))


def stable_rank(sigma: Sequence[float]) -> float:
    """‖AB‖_F²/‖AB‖₂² = Σ s_i²/s_1² (Rudelson and Vershynin 2007), between 1 and the rank; 0 of 0.

    Args:
        sigma: singular values, descending.
    """
    return math.fsum((s / sigma[0]) ** 2 for s in sigma) if sigma[0] else 0.0


def entropy_rank(sigma: Sequence[float]) -> float:
    """The effective rank exp(−Σ p_i ln p_i), p_i = s_i/Σ s_j (Roy and Vetterli 2007), between 1 and the rank; 0 of 0.

    Args:
        sigma: singular values, descending.
    """
    if not sigma[0]:
        return 0.0
    shares = [s / sigma[0] for s in sigma if s]
    total = math.fsum(shares)
    return math.exp(-math.fsum(p / total * math.log(p / total) for p in shares))
