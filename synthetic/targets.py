"""Target matrices with prescribed spectra and starting points, drawn so that every method gets the same ones.

A seed is the unit of pairing: target, frozen weights and starting point of seed i come from the i-th child of
one `SeedSequence`, so they do not depend on the method, the step sizes or how many seeds there are.
"""

from collections.abc import Sequence

import numpy as np

from lorakappa.conditioning.checks import Array, as_matrix, as_singular_values, check_rank
from lorakappa.conditioning.projection import balance
from lorakappa.synthetic.choices import ALIGNMENTS, STARTS, TARGETS
from lorakappa.synthetic.target_files import is_target_file, read_target

SMALLEST, LARGEST = 1e-50, 1e50
"""Ends of what multiplies starting entries: fourth powers of what lies between them are numbers."""


LARGEST_SPREAD = 20.0
"""Of gauges: e^(20·g) is a number for every normal draw g, though no κ is left to tell at such a gauge."""


def generators(seed: int, count: int, streams: int = 2) -> list[list[np.random.Generator]]:
    """Independent generators: `streams` for each of `count` seeds.

    Args:
        seed: root of the `SeedSequence`.
        count: number of paired instances.
        streams: generators per instance (one per thing that is drawn).

    Returns:
        Generators indexed [stream][instance].

    Raises:
        ValueError: if `count` is not positive or the seed is negative.
    """
    if count < 1:
        raise ValueError(f"{count} seeds given; at least 1 is needed")
    if seed < 0:
        raise ValueError(f"the seed must not be negative, but is {seed}")
    children = [child.spawn(streams) for child in np.random.SeedSequence(seed).spawn(count)]
    return [[np.random.default_rng(child[i]) for child in children] for i in range(streams)]


def split_parameter(spec: str, default: float | None = None) -> tuple[str, float | None]:
    """Splits "name:number" into its parts; without a colon the number is `default`.

    Raises:
        ValueError: if what follows the colon is not a finite number.
    """
    name, colon, text = spec.partition(":")
    if not colon:
        return name, default
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{spec!r}: {text!r} is not a number")
    return name, value


def spectrum_from_name(spec: str, k: int) -> Array:
    """Singular values s₁ = 1 ≥ … ≥ s_k of a named spectrum.

    Args:
        spec: "linear" (s_i = (k − i + 1)/k), "geometric:q" (s_i = q^{i−1}, default q = 0.8) or
            "power-law:p" (s_i = i^{−p}, default p = 1).
        k: how many.

    Returns:
        (k,) descending singular values.

    Raises:
        ValueError: on an unknown name or a parameter outside 0 < q ≤ 1, p ≥ 0.
    """
    name, parameter = split_parameter(spec)
    index = np.arange(k)
    if name == "linear" and parameter is None:
        return (k - index) / k
    if name == "geometric":
        ratio = 0.8 if parameter is None else parameter
        if not 0 < ratio <= 1:
            raise ValueError(f"{spec!r}: the ratio must lie in (0, 1]")
        return np.asarray(ratio**index, dtype=np.float64)
    if name == "power-law":
        exponent = 1.0 if parameter is None else parameter
        if exponent < 0:
            raise ValueError(f"{spec!r}: the exponent must not be negative")
        return np.asarray((index + 1.0) ** -exponent, dtype=np.float64)
    raise ValueError(f"unknown target {spec!r}; choose one of {', '.join(TARGETS)}")


def random_matrix(s: Array, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """U diag(s) Vᵀ with Haar-distributed orthonormal U (a, k) and V (b, k), k = min(a, b).

    Args:
        s: (k,) singular values.
        shape: (a, b).
        rng: source of randomness.

    Returns:
        (a, b) float64 matrix.

    Raises:
        ValueError: if there are not min(a, b) singular values.
    """
    k = min(shape)
    if s.shape != (k,):
        raise ValueError(f"{len(s)} singular values given, but a {shape[0]}×{shape[1]} matrix has {k}")
    bases = []
    for rows in shape:
        Q, R = np.linalg.qr(rng.standard_normal((rows, k)))
        bases.append(Q * np.sign(np.diag(R)))  # without the signs Q is not Haar distributed
    return np.asarray((bases[0] * s) @ bases[1].T, dtype=np.float64)


def targets(spec: str, shape: tuple[int, int], rngs: Sequence[np.random.Generator]) -> Array:
    """One target matrix Z per generator.

    Args:
        spec: "gaussian" (independent standard normal entries), a spectrum of `spectrum_from_name` with random
            singular vectors, or a file: .npy, .npz (one array) or .txt holding a matrix of the given shape,
            which every instance then shares, or a vector of singular values.
        shape: (a, b).
        rngs: one per instance.

    Returns:
        (n, a, b) float64 array.

    Raises:
        ValueError: on an unknown name, a wrong shape or non-finite entries in the file.
        OSError: if the file cannot be read.
    """
    check_shape(shape)
    if spec == "gaussian":
        return np.stack([rng.standard_normal(shape) for rng in rngs])
    if not is_target_file(spec):
        s = spectrum_from_name(spec, min(shape))
        return np.stack([random_matrix(s, shape, rng) for rng in rngs])
    content = read_target(spec, shape)
    if content.ndim == 2:
        return np.stack([as_matrix("the target", content)] * len(rngs))
    s = as_singular_values(content)
    return np.stack([random_matrix(s, shape, rng) for rng in rngs])


def check_shape(shape: tuple[int, int]) -> None:
    """Raises ValueError unless both sizes are positive."""
    if min(shape) < 1:
        raise ValueError(f"the shape must be positive, but is {shape[0]}×{shape[1]}")


def check_target_name(spec: str, shape: tuple[int, int]) -> None:
    """Checks what `targets` is asked for, without drawing or reading much.

    Raises:
        ValueError: on an unknown name, a parameter out of range, or a file that holds no target of that shape.
        OSError: if the file cannot be read.
    """
    check_shape(shape)
    if is_target_file(spec):
        read_target(spec, shape)
    elif spec != "gaussian":
        spectrum_from_name(spec, 1)


def weights(
    conditions: tuple[float, float], Z: Array, rngs: Sequence[np.random.Generator], alignment: str = "random"
) -> tuple[Array, Array]:
    """C and D of the weighted loss ½‖C(AB − Z)D‖², a pair for each target.

    Args:
        conditions: condition numbers c ≥ 1 of C and D; the singular values are c^{-i/(size − 1)} up to a factor.
        Z: (n, a, b) targets.
        rngs: one per target.
        alignment: "random" for random singular vectors; "crossed" for those of Z, the strongest having the largest
            weight in C and the smallest in D, so that outputs and inputs ask for different gauges.

    Returns:
        C (n, a, a) and D (n, b, b), scaled to ‖C‖_F² = a and ‖D‖_F² = b, so that the loss of an AB with independent
        entries is the same on average for all condition numbers.

    Raises:
        ValueError: as `check_weights`.
    """
    check_weights(conditions, alignment)
    spectra = []
    for condition, size in zip(conditions, Z.shape[-2:], strict=True):
        s = condition ** -np.linspace(0.0, 1.0, size)
        spectra.append(s * np.sqrt(size / (s**2).sum()))
    c, d = spectra
    if alignment == "crossed":
        U, _, Vt = np.linalg.svd(Z)
        return (U * c) @ U.mT, (Vt.mT * d[::-1]) @ Vt
    C, D = (np.stack([random_matrix(s, (len(s), len(s)), rng) for rng in rngs]) for s in spectra)
    return C, D


LARGEST_CONDITION = 1e6
"""Of weights: the Hessian has its square, and beyond that float64 does not tell minimizers from other pairs."""


def check_weights(conditions: tuple[float, float], alignment: str) -> None:
    """Raises ValueError for a condition number that weights cannot have, or an unknown alignment."""
    for condition in conditions:
        if not 1 <= condition <= LARGEST_CONDITION:
            limits = f"must lie in [1, {LARGEST_CONDITION:g}]"
            raise ValueError(f"a condition number of weights {limits}, but is {condition:g}")
    if alignment not in ALIGNMENTS:
        raise ValueError(f"unknown alignment {alignment!r}; choose from {', '.join(ALIGNMENTS)}")


def low_rank(Z: Array, r: int) -> Array:
    """Z_r, the best rank-r approximation, of every matrix of a stack (…, a, b)."""
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    return np.asarray((U[..., :r] * s[..., None, :r]) @ Vt[..., :r, :], dtype=np.float64)


def starts(
    spec: str, shape: tuple[int, int], r: int, rngs: Sequence[np.random.Generator], *, init_std: float = 1.0
) -> tuple[Array, Array]:
    """One starting pair per generator.

    Args:
        spec: "lora" (A = 0, B of independent N(0, init_std²) entries: LoRA's start; of size 1, the
            default, in the public BaLoRA experiment, and 1/√(3b) in PEFT), "gaussian" (both N(0, init_std²)),
            "balanced" (the latter after P) or "imbalanced:t" (the balanced one turned into (tA, B/t), default t = 4).
        shape: (a, b) of AB.
        r: rank.
        rngs: one per instance.
        init_std: standard deviation of the entries.

    Returns:
        A (n, a, r) and B (n, r, b), float64.

    Raises:
        ValueError: on an unknown name, r > min(a, b), or an init_std or ratio that is not positive.
    """
    check_rank(r, *shape)
    name, ratio = check_start_name(spec, init_std)
    A = init_std * np.stack([rng.standard_normal((shape[0], r)) for rng in rngs])
    B = init_std * np.stack([rng.standard_normal((r, shape[1])) for rng in rngs])
    if name == "lora":
        return np.zeros_like(A), B
    if name == "gaussian":
        return A, B
    A, B = balance(A, B)
    if name == "balanced":
        return A, B
    return ratio * A, B / ratio


def check_start_name(spec: str, init_std: float) -> tuple[str, float]:
    """Checks what `starts` is asked for.

    Returns:
        The name and the ratio, which only "imbalanced" uses.

    Raises:
        ValueError: on an unknown name, or an init_std or ratio that is not positive.
    """
    if not SMALLEST < init_std < LARGEST:
        raise ValueError(f"the init std must lie between {SMALLEST:g} and {LARGEST:g}, but is {init_std:g}")
    name, ratio = split_parameter(spec)
    plain = name in ("lora", "gaussian", "balanced") and ratio is None
    if not plain and name != "imbalanced":
        raise ValueError(f"unknown start {spec!r}; choose one of {', '.join(STARTS)}")
    t = 4.0 if ratio is None else ratio
    if not SMALLEST < t < LARGEST:
        raise ValueError(f"{spec!r}: the ratio must lie between {SMALLEST:g} and {LARGEST:g}")
    return name, t


def random_gauge(r: int, spread: float, rng: np.random.Generator) -> Array:
    """G = U diag(e^{spread·g}) Vᵀ with Haar orthogonal U, V and standard normal g: always invertible.

    Args:
        r: size.
        spread: 0 gives an orthogonal G, which leaves κ alone.
        rng: source of randomness.

    Returns:
        (r, r) float64 matrix.
    """
    return random_matrix(np.exp(spread * rng.standard_normal(r)), (r, r), rng)
