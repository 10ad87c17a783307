"""Time of κ in closed form, against a dense eigendecomposition of the Hessian where that is possible at all.

Peer: `numpy.linalg.eigvalsh(hessian(A, B, Z))`, O(d³) time and O(d²) memory with d = r(a + b).
"""

import numpy as np
from timing import seconds  # a sibling script

from lorakappa.conditioning import condition_number, hessian, minimizer
from lorakappa.shared.command_line import console, new_app, run

app = new_app(__doc__ or "")


@app.command()
def main(repetitions: int = 5) -> None:
    """Prints one row a shape; the last one has a Hessian of 5 TB, so it stands without its peer."""
    console.print("      a      b   r       d  closed form [ms]  dense / closed form", markup=False)
    rng = np.random.default_rng(0)
    for a, b, r in [(8, 8, 2), (20, 20, 4), (64, 48, 8), (11008, 2048, 64)]:
        A, B = rng.standard_normal((a, r)), rng.standard_normal((r, b))
        s = np.linalg.svd(np.linalg.qr(A)[1] @ np.linalg.qr(B.T)[1].T, compute_uv=False)
        values = np.append(s, s[-1] / 2)
        closed = seconds(lambda A=A, B=B, v=values: condition_number(A, B, singular_values=v), repetitions)
        ratio = "–"
        if a <= 64:
            Z = rng.standard_normal((a, b))
            A, B = minimizer(Z, r)
            dense = seconds(lambda A=A, B=B, Z=Z: np.linalg.eigvalsh(hessian(A, B, Z)), repetitions)
            ratio = f"{dense / closed:.0f}"
        console.print(f"{a:7d} {b:6d} {r:3d} {r * (a + b):7d} {1e3 * closed:17.2f} {ratio:>20s}")


if __name__ == "__main__":
    run(app)
