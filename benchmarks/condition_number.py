"""Time of κ in closed form: beside a singular value decomposition of Z, and beside the Hessian and its eigenvalues.

Peers: `numpy.linalg.svd(Z)`, which any check of AB against Z_r by its definition takes first; `torch.func.hessian` of
the loss with `torch.linalg.eigvalsh`, which needs no theory, O(d³) time and O(d²) memory with d = r(a + b); with the
singular values given, Householder QR of both factors and the decompositions of their cores, the textbook way; for many
problems, a Python loop.
"""

from collections.abc import Callable

import numpy as np
import torch
from compare import Goal, Row, measure  # a sibling script

from lorakappa.conditioning import condition_number, minimizer
from lorakappa.conditioning.minimizers import analyse_minimizer

SHAPES = [(20, 20, 4), (40, 40, 8), (64, 64, 16)]
SVD, HESSIAN, DECOMPOSING = "numpy.linalg.svd(Z)", "torch.func.hessian + eigvalsh", "route that decomposes Z"
QR, LOOP = "Householder QR and SVDs", "Python loop"


def problem(a: int, b: int, r: int, *, turned: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A minimizer for a Gaussian target, balanced or in a Gaussian gauge."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((a, b))
    A, B = minimizer(Z, r, rng.standard_normal((r, r)) if turned else None)
    return A, B, Z


def by_hessian(A: np.ndarray, B: np.ndarray, Z: np.ndarray) -> Callable[[], float]:
    """κ from all eigenvalues of the Hessian that torch differentiates."""
    (a, r), b = A.shape, B.shape[1]
    theta = torch.from_numpy(np.concatenate([A.ravel(), B.ravel()]))
    target = torch.from_numpy(Z)

    def loss(point: torch.Tensor) -> torch.Tensor:
        left, right = point[: a * r].reshape(a, r), point[a * r :].reshape(r, b)
        return 0.5 * (target - left @ right).square().sum()

    def call() -> float:
        eigenvalues = torch.linalg.eigvalsh(torch.func.hessian(loss)(theta))
        return float(eigenvalues[-1] / eigenvalues[r * r])

    return call


def by_qr(A: np.ndarray, B: np.ndarray, s: np.ndarray) -> float:
    """κ from singular values of Z, r < min(a, b): QR of both factors, SVDs of R_A, R_B, R_A·R_Bᵀ and of F⁻¹."""
    r = A.shape[1]
    R_A, R_B = np.linalg.qr(A, mode="r"), np.linalg.qr(B.T, mode="r")
    U, product, Vt = np.linalg.svd(R_A @ R_B.T)
    if np.linalg.norm(product - s[:r]) > 1e-8 * np.linalg.norm(s[:r]):
        raise ValueError("AB has other singular values")
    largest = sum(np.linalg.svd(R, compute_uv=False)[0] ** 2 for R in (R_A, R_B))
    left, right = U.T @ R_A / s[:r, None], Vt @ R_B / s[:r, None]
    minus, plus = (np.sqrt(1 + sign * s[r] / s[:r, None]) for sign in (-1, 1))
    inverse = np.block([[left / minus, right / minus], [left / plus, -right / plus]])
    return float(largest * np.linalg.norm(inverse, 2) ** 2 / 2)


def rows(quick: bool) -> list[Row]:
    """All rows; `quick` leaves out what takes long."""
    rounds = 5 if quick else 15
    return [
        *beside_svd(rounds),
        *beside_hessian(SHAPES[:1] if quick else SHAPES),
        *with_singular_values(rounds=3 if quick else 7),
        many_problems(500 if quick else 10_000, rounds=2),
        *growth(rounds=2 if quick else 5),
    ]


def beside_svd(rounds: int) -> list[Row]:
    found = []
    for a, b, r in SHAPES:
        for turned in (False, True):
            A, B, Z = problem(a, b, r, turned=turned)
            calls = {
                "condition_number": lambda A=A, B=B, Z=Z: condition_number(A, B, Z),
                SVD: lambda Z=Z: np.linalg.svd(Z),
                DECOMPOSING: lambda A=A, B=B, Z=Z: analyse_minimizer(A, B, Z).kappa,
            }
            setting = f"{a}×{b}, r = {r}, {'Gaussian gauge' if turned else 'balanced'}"
            found.append(Row("κ of a minimizer", setting, measure(calls, rounds=rounds), (Goal(1 / 1.2, SVD),)))
    return found


def beside_hessian(shapes: list[tuple[int, int, int]]) -> list[Row]:
    found = []
    for a, b, r in shapes:
        A, B, Z = problem(a, b, r)
        hessian = by_hessian(A, B, Z)
        assert abs(hessian() / condition_number(A, B, Z) - 1) < 1e-8
        calls = {"condition_number": lambda A=A, B=B, Z=Z: condition_number(A, B, Z), HESSIAN: hessian}
        timings = measure(calls, rounds=2 if a == 64 else 5)
        goals = (Goal(2500, HESSIAN),) if a == 64 else ()
        found.append(Row("κ without a Hessian", f"{a}×{b}, r = {r}, d = {r * (a + b)}", timings, goals))
    return found


def with_singular_values(rounds: int) -> list[Row]:
    found = []
    for a, b, r in ((11008, 2048, 64), (11008, 2048, 256)):
        A, B, s = tall(a, b, r)
        assert abs(by_qr(A, B, s) / condition_number(A, B, singular_values=s) - 1) < 1e-8
        calls = {
            "condition_number": lambda A=A, B=B, s=s: condition_number(A, B, singular_values=s),
            QR: lambda A=A, B=B, s=s: by_qr(A, B, s),
        }
        goals = (Goal(1 / 0.1),) if r == 256 else ()
        found.append(Row("κ, singular values given", f"{a}×{b}, r = {r}", measure(calls, rounds=rounds), goals))
    return found


def tall(a: int, b: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A Gaussian pair, σ(AB) and s_{r+1} = s_r/2."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((a, r)), rng.standard_normal((r, b))
    s = np.linalg.svd(np.linalg.qr(A, mode="r") @ np.linalg.qr(B.T, mode="r").T, compute_uv=False)
    return A, B, np.append(s, s[-1] / 2)


def many_problems(number: int, rounds: int) -> Row:
    Z = np.random.default_rng(0).standard_normal((number, 20, 20))
    calls = {
        "minimizer and condition_number": lambda: condition_number(*minimizer(Z, 4), Z),
        LOOP: lambda: [condition_number(*minimizer(z, 4), z) for z in Z],
    }
    timings = measure(calls, rounds=rounds)
    return Row("many small κ", f"{number} × 20×20, r = 4", timings, (Goal(1e4),), number, "problems")


def growth(rounds: int) -> list[Row]:
    found = []
    for n in (16, 32, 64, 128, 256, 512):
        A, B, Z = problem(n, n, 8)
        timings = measure({"condition_number": lambda A=A, B=B, Z=Z: condition_number(A, B, Z)}, rounds=rounds)
        found.append(Row("κ as a + b grows", f"{n}×{n}, r = 8", timings, growth=("a + b", 2 * n), exponent=3))
    for r in (1, 2, 4, 8, 16, 32, 64):
        A, B, Z = problem(128, 128, r)
        timings = measure({"condition_number": lambda A=A, B=B, Z=Z: condition_number(A, B, Z)}, rounds=rounds)
        found.append(Row("κ as r grows", f"128×128, r = {r}", timings, growth=("r", r)))
    for n in (1024, 2048, 4096, 8192, 16384):
        A, B, s = tall(n, n, 32)
        timings = measure(
            {"condition_number": lambda A=A, B=B, s=s: condition_number(A, B, singular_values=s)}, rounds=rounds
        )
        found.append(
            Row(
                "κ, singular values given, as a + b grows",
                f"{n}×{n}, r = 32",
                timings,
                growth=("a + b", 2 * n),
                exponent=1,
            )
        )
    return found
