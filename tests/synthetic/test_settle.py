"""The critics' experiments against plain loops, exact roots and curves made up by hand."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from lorakappa.conditioning.checks import DegenerateTargetError
from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.rates import gd_rate
from lorakappa.conditioning.spectra import condition_number, extreme_eigenvalues
from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.engine import Trajectories
from lorakappa.synthetic.experiments import settle as module
from lorakappa.synthetic.experiments.settle import settle
from lorakappa.synthetic.optimizers import MatchedGradientDescent
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings

SMALL = ProblemSettings(shape=(5, 4), rank=3, seeds=3, target="geometric:0.6", init_std=0.3, seed=4)


def excess(A, B, Z):
    s = np.linalg.svd(Z, compute_uv=False)
    return ((Z - A @ B) ** 2).sum() / 2 - (s[A.shape[1] :] ** 2).sum() / 2


def gd_step(A, B, Z, gamma):
    R = A @ B - Z
    return A - gamma * R @ B.T, B - gamma * A.T @ R


def gd(A, B, Z, gammas, balanced=False):
    """Every pair on the way."""
    path = [(A, B)]
    for gamma in gammas:
        A, B = gd_step(A, B, Z, gamma)
        if balanced:
            A, B = balance(A, B)
        path.append((A, B))
    return path


def gap(A, B):
    return A.T @ A - B @ B.T


def started(start):
    """The problems from entries that give a Gaussian pair a third of the balanced minimizer's size."""
    n, parameters = SMALL.seeds, SMALL.rank * sum(SMALL.shape)
    Z = make_problems(SMALL).Z
    mass = [2 * np.linalg.svd(Z[i], compute_uv=False)[: SMALL.rank].sum() for i in range(n)]
    std = float(np.sqrt(np.median(mass) / parameters)) / 3
    problems = make_problems(replace(SMALL, start=start, init_std=std))
    return [(problems.Z[i], problems.start[0][i], problems.start[1][i]) for i in range(n)]


def test_the_same_curve_is_a_plain_loops(monkeypatch):
    monkeypatch.setattr(module, "FLOW_STEPS", 10)
    result = settle(SMALL, experiments=("same-curve",))
    assert set(result.arrays) == {"gammas", "deviation", "imbalance_from_balanced"}
    np.testing.assert_array_equal(result.arrays["gammas"], [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64])
    for i, (Z, A, B) in enumerate(started("balanced")):
        assert np.linalg.norm(gap(A, B)) < 1e-12
        L = 2 * np.linalg.norm(Z, 2)
        for j in range(3):
            gammas = np.full(10 * 2**j, 0.5 ** (j + 1) / L)
            lora, balora = (gd(A, B, Z, gammas, balanced) for balanced in (False, True))
            f, g = (np.array([excess(*pair, Z) for pair in path]) for path in (lora, balora))
            assert result.arrays["deviation"][j, i] == pytest.approx(np.abs(f - g).max() / f[0], rel=1e-8)
            A_end, B_end = lora[-1]
            share = np.linalg.norm(gap(A_end, B_end)) / (np.linalg.norm(A_end) ** 2 + np.linalg.norm(B_end) ** 2)
            assert result.arrays["imbalance_from_balanced"][j, i] == pytest.approx(share, rel=1e-8)


def test_the_drift_is_a_plain_loops():
    result = settle(SMALL, experiments=("flow",))
    for i, (Z, A, B) in enumerate(started("gaussian")):
        L = 2 * np.linalg.norm(Z, 2)
        mass = np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2
        for j in range(3):
            gamma = 0.5 ** (j + 1) / L
            R = A @ B - Z
            exact = gamma**2 * np.linalg.norm(B @ R.T @ R @ B.T - A.T @ R @ R.T @ A) / mass
            assert result.arrays["drift_one_step"][j, i] == pytest.approx(exact, rel=1e-9)
            end = gd(A, B, Z, np.full(40 * 2**j, gamma))[-1]
            drift = np.linalg.norm(gap(*end) - gap(A, B)) / mass
            assert result.arrays["drift_fixed_time"][j, i] == pytest.approx(drift, rel=1e-9)


def test_exponents_are_those_of_the_medians_at_the_smaller_half_of_the_step_sizes():
    gammas = 0.5 ** np.arange(1, 7)
    values = np.outer(gammas**1.5, [1.0, 7.0, 100.0])
    values[:3] = 1.0  # the larger half of the step sizes says nothing
    values[3:, 2] = 1e300  # nor does one seed
    assert module._slope(values) == pytest.approx(1.5)


def test_rates_of_pairs_are_compared_by_their_logarithms():
    assert module._largest_log_rate_difference(np.empty((2, 0))) == 0
    limsup = np.array([[0.5, 0.9], [0.25, 0.9]])
    assert module._largest_log_rate_difference(limsup) == pytest.approx(0.5)
    assert module._largest_log_rate_difference(limsup[::-1]) == pytest.approx(1.0)


def test_the_unbalanced_minimizer_of_equal_kappa_goes_nine_tenths_of_the_way():
    Z = np.diag([3.0, 2.0, 1.0, 0.5])
    A, B = module._unbalanced_at_equal_kappa(Z, 3)
    kappa = condition_number(*minimizer(Z, 3), Z)
    np.testing.assert_allclose(A @ B, np.diag([3.0, 2.0, 1.0, 0.0]), atol=1e-12)
    assert condition_number(A, B, Z) == pytest.approx(kappa, rel=1e-9)
    balanced = np.sqrt([3.0, 2.0, 1.0])
    turned = np.abs(A).max(axis=0) / balanced
    t = turned[1]
    np.testing.assert_allclose(turned, [1, t, 1], rtol=1e-9)
    assert t > 1.05

    def at(t):
        pair = balanced * [1, t, 1], balanced / [1, t, 1]
        return condition_number(np.eye(4, 3) * pair[0], pair[1][:, None] * np.eye(3, 4), Z)

    largest = 1 + (t - 1) / 0.9
    assert at(largest * (1 - 1e-6)) == pytest.approx(kappa, rel=1e-9)
    assert at(largest * (1 + 1e-3)) > kappa * (1 + 1e-6)


def test_no_imbalance_leaves_kappa_unchanged_if_the_two_largest_singular_values_agree():
    with pytest.raises(DegenerateTargetError, match="s₁ = s₂"):
        module._unbalanced_at_equal_kappa(np.diag([3.0, 3.0, 1.0, 0.5]), 3)


def test_equal_kappa_measures_the_rate_that_kappa_promises():
    result = settle(SMALL, experiments=("equal-kappa",))
    arrays, meta = result.arrays, result.meta
    for name in ("", "_limsup", "_log_ratio", "_conclusive"):
        assert arrays["equal_kappa" + name].shape == (2, 3)
    Z = make_problems(SMALL).Z
    for i in range(SMALL.seeds):
        A, B = module._unbalanced_at_equal_kappa(Z[i], SMALL.rank)
        kappa = condition_number(A, B, Z[i])
        np.testing.assert_allclose(arrays["equal_kappa"][:, i], kappa, rtol=1e-3)
        for m in range(2):
            here, limsup = arrays["equal_kappa"][m, i], arrays["equal_kappa_limsup"][m, i]
            ratio = np.log(limsup) / np.log(((here - 1) / (here + 1)) ** 2)
            assert arrays["equal_kappa_log_ratio"][m, i] == pytest.approx(ratio, rel=1e-12)
            if arrays["equal_kappa_conclusive"][m, i]:
                assert ratio == pytest.approx(1, abs=0.05)
                assert limsup == pytest.approx(gd_rate(kappa), rel=0.02)
        # the start is a thousandth away from the pair, so f − f* is of the order μδ²/2 … Lδ²/2
        mu, L = extreme_eigenvalues(A, B, Z[i])
        delta = 1e-6 * (np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2) / 2
        np.testing.assert_array_equal(arrays["equal_kappa_curves"][0, 0, i], arrays["equal_kappa_curves"][0, 1, i])
        assert 0.9 * mu * delta < arrays["equal_kappa_curves"][0, 0, i] < 1.1 * L * delta
    assert arrays["equal_kappa_conclusive"].any()
    difference = np.abs(arrays["equal_kappa"][0] / arrays["equal_kappa"][1] - 1).max()
    assert meta["equal_kappa_difference"] == pytest.approx(difference)
    sure = arrays["equal_kappa_conclusive"].all(axis=0)
    assert meta["equal_kappa_conclusive_share"] == sure.mean()
    limsup = arrays["equal_kappa_limsup"][:, sure]
    difference = np.abs(np.log(limsup[0]) / np.log(limsup[1]) - 1).max()
    assert meta["equal_kappa_log_rate_difference"] == pytest.approx(difference)
    # LoRA ends as imbalanced as it started, BaLoRA balanced
    shares = []
    for z in Z:
        A, B = module._unbalanced_at_equal_kappa(z, SMALL.rank)
        shares.append(np.linalg.norm(gap(A, B)) / (np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2))
    assert meta["equal_kappa_imbalance"][0] == pytest.approx(np.median(shares), rel=1e-2)
    assert meta["equal_kappa_imbalance"][1] < 1e-12


def test_equal_kappa_runs_at_the_best_step_until_rounding_shows(monkeypatch):
    asked, real = [], module.simulate

    def spied(loss, start, **options):
        asked.append((loss, start, options))
        return real(loss, start, **options)

    monkeypatch.setattr(module, "simulate", spied)
    settle(SMALL, experiments=("equal-kappa",))
    assert [options["method"] for *_, options in asked] == ["lora", "balora"]
    for loss, start, options in asked:
        decades, kappas = [], []
        for i, z in enumerate(make_problems(SMALL).Z):
            mu, L = extreme_eigenvalues(*module._unbalanced_at_equal_kappa(z, 3), z)
            assert options["step_sizes"][0, i] == pytest.approx(2 / (mu + L))
            kappas.append(L / mu)
            floor = (EPS * np.linalg.norm(z, 2) / 1e-5) ** 2 / 2
            decades.append(np.log10(loss.evaluate(start)[0][i] / floor))
        assert options["steps"] == int(20 * max(kappas))
        assert options["stop_below"] == pytest.approx(10 ** -max(decades), rel=1e-6)


def test_a_rank_without_a_middle_direction_says_so():
    result = settle(replace(SMALL, rank=2), experiments=("equal-kappa",))
    assert "rank < 3" in result.meta["equal_kappa_skipped"]
    assert set(result.arrays) == {"gammas"}
    assert "equal_kappa_curves" in settle(replace(SMALL, seeds=1), experiments=("equal-kappa",)).arrays


def matched(Z, A, B, lengths, balanced):
    """The final f − f* of gradient descent whose steps move AB by these lengths: exact roots of a quartic."""
    for length in lengths:
        R = A @ B - Z
        g_A, g_B = R @ B.T, A.T @ R
        X, Y = g_A @ B + A @ g_B, g_A @ g_B
        quartic = [(Y * Y).sum(), -2 * (X * Y).sum(), (X * X).sum(), 0, -(length**2)]
        roots = np.roots(quartic)
        gamma = min(root.real for root in roots if abs(root.imag) < 1e-9 and root.real > 0)
        A, B = gd_step(A, B, Z, gamma)
        if balanced:
            A, B = balance(A, B)
    return excess(A, B, Z)


def test_each_method_at_the_others_step_lengths_by_a_plain_loop():
    settings = replace(SMALL, init_std=0.5, start="gaussian")
    result = settle(settings, steps=8, step_sizes="0.02:0.1:3", experiments=("rescale",))
    arrays, meta = result.arrays, result.meta
    problems = make_problems(settings)
    final = np.empty((6, 3))
    for i in range(3):
        Z, A, B = problems.Z[i], problems.start[0][i], problems.start[1][i]
        lengths = []
        for m, balanced in enumerate((False, True)):
            paths = [gd(A, B, Z, np.full(8, gamma), balanced) for gamma in np.geomspace(0.02, 0.1, 3)]
            ends = [excess(*path[-1], Z) for path in paths]
            best = int(np.argmin(ends))
            final[m, i] = ends[best]
            assert arrays["rescale_step_sizes"][m, i] == pytest.approx(np.geomspace(0.02, 0.1, 3)[best])
            products = [X @ Y for X, Y in paths[best]]
            lengths.append(np.array([np.linalg.norm(q - p) for p, q in itertools.pairwise(products)]))
        for m, balanced in enumerate((False, True)):
            other = lengths[1 - m]
            final[2 + 2 * m, i] = matched(Z, A, B, other, balanced)
            multiples = [matched(Z, A, B, c * other, balanced) for c in (0.25, 0.5, 0.71, 1.0, 1.41)]
            final[3 + 2 * m, i] = min(multiples)
    np.testing.assert_allclose(arrays["rescale_curves"][-1, [0, 1, 2, 4]], final[[0, 1, 2, 4]], rtol=1e-4)
    assert (arrays["rescale_curves"][-1, [3, 5]] <= final[[3, 5]] * (1 + 1e-4)).all()
    assert meta["rescale_steps_without_that_length"] == [0, 0]


def made_up(monkeypatch, finals, missed):
    """`settle` with trajectories by name: final f − f* (n,) from a start of 1, and the last path lengths."""

    def fake(loss, start, *, method, step_sizes, steps, optimizer="gd", **_):
        rescaled = isinstance(optimizer, MatchedGradientDescent)
        final = finals[method + (" matched" if rescaled else "")]
        G = len(step_sizes)
        curves = np.ones((steps + 1, G, 3))
        curves[-1] = final
        path = np.full((steps, G, 3), 1.0 if method == "lora" else 2.0)
        if rescaled:
            path = optimizer.lengths * np.ones((steps, G, 3))
            path[:missed] *= 1.02
            path[missed:] *= 1.005
        return Trajectories(curves, curves, path, np.full((G, 3), -1), (), 1.0)

    monkeypatch.setattr(module, "simulate", fake)
    return settle(SMALL, steps=4, step_sizes="0.1:0.1:1", experiments=("rescale",))


def test_gains_are_positive_where_balora_ends_lower(monkeypatch):
    multiples = np.array([1, 1, 1, 0, 1, 3, 1])[:, None]  # decades by which a multiple ends lower than c = 1
    finals = {
        "lora": 1e-2,
        "balora": 1e-5,
        "lora matched": 1e-3 * 0.1**multiples,
        "balora matched": 1e-4 * 0.1**multiples,
    }
    result = made_up(monkeypatch, finals, missed=1)
    medians = {name: gain["median"] for name, gain in result.meta["log10_gain"].items()}
    assert medians == {
        "each_at_best": pytest.approx(3),
        "at_balora_lengths": pytest.approx(2),
        "at_multiples_of_balora_lengths": pytest.approx(-1),
        "at_lora_lengths": pytest.approx(2),
        "at_multiples_of_lora_lengths": pytest.approx(5),
    }
    assert result.meta["rescale_steps_without_that_length"] == [0.25, 0.25]
    np.testing.assert_allclose(result.arrays["rescale_curves"][-1, :, 0], [1e-2, 1e-5, 1e-3, 1e-6, 1e-4, 1e-7])


def test_a_diverged_run_counts_as_a_million_times_its_start(monkeypatch):
    finals = {"lora": 1e-2, "balora": 1e-5, "lora matched": np.full((7, 1), 1e-3), "balora matched": 1e-4}
    finals["lora matched"][3] = np.inf
    result = made_up(monkeypatch, finals, missed=0)
    assert result.meta["log10_gain"]["at_balora_lengths"]["median"] == pytest.approx(6 + 5)
    assert result.meta["rescale_steps_without_that_length"] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"loss": "mlp"}, "one-layer loss"), ({"scaling": 2.0}, "scaling α/r of 1")],
)
def test_other_losses_and_scalings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settle(replace(SMALL, **changes))
