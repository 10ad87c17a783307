"""The simulator against what a researcher would write: a plain NumPy loop, and JAX with vmap and scan.

Setting of the paper's Fig. 3: 20×20, r = 4, 8 seeds × 50 step sizes × 100 steps, one layer. The loop takes one
trajectory after the other and leaves it when it diverges; the projection of both peers is the poster's formula, the SVD
of AB. JAX is compiled beforehand, in float64, on the CPU, and compared where it is installed.

Ours shares the trajectories with copies of the process. Threads gained nothing on two cores, 8 % with BaLoRA: calls of
NumPy on stacks that fit a cache take some microseconds, and between them threads wait for Python's lock.

Where the time of P goes, in processor time of one core for a pair of 20×20 and r = 4: 1.4 of 2.9 µs are LAPACK's
eigenvalues and vectors of a 4×4 matrix, 0.4 are Cholesky and the inverse, 0.4 the Gram matrices and the new factors.
To start from the last gauge does not pay: a step leaves entries off the diagonal of 1/160 (GD) to 1/20 (Adam) of the
gaps between eigenvalues in the median, and of more than 1/4 of them in a quarter of the cases under Adam. Two to four
rounds of refining all eigenvectors at once, each of which squares that, lead to full precision, and a round takes
0.4 µs. Jacobi's method on whole stacks takes some 30 calls of NumPy a rotation, more time than LAPACK.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from compare import Goal, Row, measure  # a sibling script
from simulator_alone import answer, problems_of  # likewise

from lorakappa.synthetic.engine import DIVERGENCE_FACTOR
from lorakappa.synthetic.problems import step_size_grid
from lorakappa.synthetic.settings import ProblemSettings

WANTED = 400_000
"""Trajectory-steps a second on two cores."""

STEPS, GROWTH_STEPS, JOBS = 100, 20, 2

Peer = Callable[[], Any]


class Alone:
    """A context with the simulator in a process of its own (`simulator_alone`); called, it waits for an answer."""

    def __enter__(self) -> "Alone":
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("simulator_alone.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, **request: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError("the simulator's process has ended")


def rows(quick: bool) -> list[Row]:
    """LoRA and BaLoRA under gradient descent and Adam beside their peers, then more and more trajectories.

    Args:
        quick: one round, and few trajectories.
    """
    seeds = 1 if quick else 8
    problems = problems_of(seeds)
    has_jax = importlib.util.find_spec("jax") is not None
    made = []
    with Alone() as alone:
        for optimizer, method in product(("gd", "adam"), ("lora", "balora")):
            grid = step_size_grid("auto", problems, optimizer)
            peers: dict[str, Peer] = {
                "NumPy loop": partial(plain_loop, problems.Z, problems.start, grid, optimizer, method == "balora")
            }
            if has_jax:
                peers["JAX, vmap and scan"] = jax_version(problems, grid, optimizer, balanced=method == "balora")
            request = {"method": method, "optimizer": optimizer, "seeds": seeds, "steps": STEPS, "jobs": JOBS}
            ours = partial(answer, **request, rows=None)
            check_agreement(ours().excess, peers, exact=(optimizer, method) != ("adam", "balora"))
            calls = {"ours": partial(alone, **request, rows=None), **peers}
            made.append(
                Row(
                    work="simulation",
                    setting=f"{method}, {optimizer}, {seeds} seeds × {len(grid)} step sizes × {STEPS} steps",
                    timings=measure(calls, rounds=1 if quick else 3, threads=JOBS),
                    goals=(Goal(WANTED),),
                    amount=grid.size * seeds * STEPS,
                    unit="trajectory-steps",
                    threads=JOBS,
                    note="" if has_jax else "JAX is not installed",
                )
            )
        return [*made, *(row for method in ("lora", "balora") for row in growth(alone, method, quick=quick))]


def growth(alone: Alone, method: str, *, quick: bool) -> list[Row]:
    """The time of more and more trajectories that do not diverge; linear in their number is the best there is."""
    seeds = ProblemSettings().seeds
    request = {"method": method, "optimizer": "gd", "seeds": seeds, "steps": GROWTH_STEPS, "jobs": JOBS}
    found = []
    for rows_of_the_stack in (1, 4) if quick else (1, 4, 16, 64, 256, 1024):
        count = rows_of_the_stack * seeds
        call = partial(alone, **request, rows=rows_of_the_stack)
        found.append(
            Row(
                work=f"growth of {method}",
                setting=f"{count} trajectories × {GROWTH_STEPS} steps",
                timings=measure({"ours": call}, rounds=1 if quick else 3, threads=JOBS),
                amount=count * GROWTH_STEPS,
                unit="trajectory-steps",
                threads=JOBS,
                growth=("trajectories", count),
                exponent=1,
            )
        )
    return found


def plain_loop(Z: Any, start: Any, grid: Any, optimizer: str, balanced: bool) -> Any:
    """(G, n) final f − f*, one trajectory after the other; inf for those that diverge."""
    final = np.full((len(grid), len(Z)), np.inf)
    r = start[0].shape[-1]
    for i, target in enumerate(Z):
        minimum = (np.linalg.svd(target, compute_uv=False)[r:] ** 2).sum() / 2
        for g, gamma in enumerate(grid):
            A, B = start[0][i].copy(), start[1][i].copy()
            moments = [np.zeros_like(x) for x in (A, B, A, B)]
            limit = DIVERGENCE_FACTOR * ((target - A @ B) ** 2).sum() / 2
            for t in range(STEPS):
                E = A @ B - target
                gradient = E @ B.T, A.T @ E
                if optimizer == "adam":
                    for k, x in enumerate(gradient):
                        moments[k] = 0.9 * moments[k] + 0.1 * x
                        moments[k + 2] = 0.999 * moments[k + 2] + 0.001 * x * x
                    c1, c2 = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
                    gradient = tuple(moments[k] / c1 / (np.sqrt(moments[k + 2] / c2) + 1e-8) for k in range(2))
                A, B = A - gamma * gradient[0], B - gamma * gradient[1]
                if balanced:
                    U, S, Vt = np.linalg.svd(A @ B)
                    root = np.sqrt(S[:r])
                    A, B = U[:, :r] * root, root[:, None] * Vt[:r]
                loss = ((target - A @ B) ** 2).sum() / 2
                if not loss < limit:
                    break
            else:
                final[g, i] = loss - minimum
    return final


def jax_version(problems: Any, grid: Any, optimizer: str, *, balanced: bool) -> Peer:
    """The same, compiled: a scan over the steps under two vmaps."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    r = problems.start[0].shape[-1]

    def objective(pair: Any, target: Any) -> Any:
        return ((target - pair[0] @ pair[1]) ** 2).sum() / 2

    def one(A: Any, B: Any, target: Any, gamma: Any) -> Any:
        def step(state: Any, t: Any) -> Any:
            pair, m, v = state
            gradient = jax.grad(objective)(pair, target)
            if optimizer == "adam":
                m = jax.tree.map(lambda x, g: 0.9 * x + 0.1 * g, m, gradient)
                v = jax.tree.map(lambda x, g: 0.999 * x + 0.001 * g * g, v, gradient)
                c1, c2 = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
                gradient = jax.tree.map(lambda x, y: x / c1 / (jnp.sqrt(y / c2) + 1e-8), m, v)
            pair = jax.tree.map(lambda x, g: x - gamma * g, pair, gradient)
            if balanced:
                U, S, Vt = jnp.linalg.svd(pair[0] @ pair[1], full_matrices=False)
                root = jnp.sqrt(S[:r])
                pair = (U[:, :r] * root, root[:, None] * Vt[:r])
            return (pair, m, v), objective(pair, target)

        zeros = (jnp.zeros_like(A), jnp.zeros_like(B))
        minimum = (jnp.linalg.svd(target, compute_uv=False)[r:] ** 2).sum() / 2
        return jax.lax.scan(step, ((A, B), zeros, zeros), jnp.arange(STEPS))[1][-1] - minimum

    seeds = jax.vmap(one, in_axes=(0, 0, 0, None))
    compiled = jax.jit(jax.vmap(seeds, in_axes=(None, None, None, 0)))
    arrays = [jnp.asarray(x) for x in (*problems.start, problems.Z, grid)]
    return lambda: np.asarray(compiled(*arrays))


def check_agreement(excess: Any, peers: dict[str, Peer], *, exact: bool) -> None:
    """Refuses to compare times of what is not the same computation.

    Args:
        excess: (steps + 1, G, n) f − f* of ours.
        peers: what returns theirs at the end.
        exact: whether the peers' are the same; after the formula without a rule for signs Adam's moments are not.

    Raises:
        ValueError: if a peer ends elsewhere in a trajectory that converges.
    """
    start, final = excess[0], excess[-1]
    for name, call in peers.items() if exact else ():
        theirs = call()
        settled = final < 0.3 * start  # far from divergence, where rounding grows
        off = np.abs(theirs[settled] - final[settled]) / start[settled]
        if not (off < 1e-6).all():
            raise ValueError(f"{name} does not compute the same: off by {off.max():.1e} of the start")
