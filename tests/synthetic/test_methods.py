"""Every method's step against its formula, written here independently; and the grammar of the methods' names."""

import numpy as np
import pytest

from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.refactoring import refactored_gradient
from lorakappa.shared.method_names import split_method_names
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.methods import LARGEST_MOVE, PARTS, Penalty, Preconditioning, Refactoring, parse_method
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings

SMALL = ProblemSettings(shape=(6, 5), rank=2, seeds=3, start="gaussian", init_std=0.6)
GAMMAS = np.array([0.01, 0.04])


def gradient(Z, A, B):
    return (A @ B - Z) @ B.T, A.T @ (A @ B - Z)


def penalized(A, B, size, ratio):
    D = B @ B.T - ratio * A.T @ A
    return A + size * ratio * A @ D, B - size * D @ B


def scaled(A, B, g_A, g_B, damping):
    eye = np.eye(A.shape[1])
    return g_A @ np.linalg.inv(B @ B.T + damping * eye), np.linalg.inv(A.T @ A + damping * eye) @ g_B


def refactored(A, B, g_A, g_B, scalar):
    """With S from its definition: X # Y = X^{1/2}(X^{-1/2}YX^{-1/2})^{1/2}X^{1/2}, X = (AᵀA)⁻¹ and Y = BBᵀ."""
    if scalar:
        S = np.linalg.norm(B) / np.linalg.norm(A) * np.eye(A.shape[1])
    else:
        root, inverse = power(A.T @ A, -0.5), power(A.T @ A, 0.5)
        S = root @ power(inverse @ (B @ B.T) @ inverse, 0.5) @ root
    return g_A @ np.linalg.inv(S), S @ g_B


def power(M, exponent):
    eigenvalues, Q = np.linalg.eigh(M)
    return (Q * eigenvalues**exponent) @ Q.T


def one_step(name, A, B, Z, gamma):
    """The factors after one GD step, by the formulas of the papers."""
    g_A, g_B = gradient(Z, A, B)
    if name.startswith("reflora"):
        g_A, g_B = refactored(A, B, g_A, g_B, "scalar" in name)
    if "scaled" in name or name.startswith("pilora"):
        g_A, g_B = scaled(A, B, g_A, g_B, 0.3 if "damping=0.3" in name else 1e-6)
    faster = {"lora-plus": 16, "lora-plus:lr-ratio=3": 3, "balora-plus": 16}.get(name, 1)
    A, B = A - faster * gamma * g_A, B - gamma * g_B
    ratio, strength = {
        "ilora": (2 / 6, 1.0),
        "ilora:lambda=0.5,factor=2,power=0.5": (2 * (2 / 6) ** 0.5, 0.5),
        "ilora-balanced:lambda=0.2": (1.0, 0.2),
        "pilora:damping=0.3,lambda=0.7": (2 / 6, 0.7),
        "ilora:trained=yes,factor=3": (1.0, 1.0),
    }.get(name, (None, None))
    if ratio is not None:
        return penalized(A, B, gamma * strength, ratio)
    return balance(A, B) if name.startswith("balora") else (A, B)


@pytest.mark.parametrize(
    "name",
    [
        "lora",
        "balora",
        "reflora",
        "reflora:mode=scalar",
        "ilora",
        "ilora:lambda=0.5,factor=2,power=0.5",
        "ilora:trained=yes,factor=3",
        "ilora-balanced:lambda=0.2",
        "scaled-gd",
        "scaled-gd:damping=0.3",
        "pilora:damping=0.3,lambda=0.7",
        "balora-scaled-gd",
        "lora-plus",
        "lora-plus:lr-ratio=3",
        "balora-plus",
    ],
)
def test_one_step_is_the_formula(name):
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, method=name, step_sizes=GAMMAS, steps=1)
    assert (run.diverged_at == -1).all()
    for g, gamma in enumerate(GAMMAS):
        for i, Z in enumerate(problems.Z):
            A, B = one_step(name, problems.start[0][i], problems.start[1][i], Z, gamma)
            np.testing.assert_allclose(run.factors[0][g, i], A, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(run.factors[1][g, i], B, rtol=1e-9, atol=1e-12)


def test_pilora_is_scaled_gd_and_then_the_penalty():
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, method="pilora:lambda=0.3", step_sizes=[0.02], steps=5)
    for i, Z in enumerate(problems.Z):
        A, B = (x[i] for x in problems.start)
        for _ in range(5):
            g_A, g_B = scaled(A, B, *gradient(Z, A, B), 1e-6)
            A, B = penalized(A - 0.02 * g_A, B - 0.02 * g_B, 0.02 * 0.3, 2 / 6)
        np.testing.assert_allclose(run.factors[0][0, i], A, rtol=1e-8)
        np.testing.assert_allclose(run.factors[1][0, i], B, rtol=1e-8)


def test_adam_is_fed_with_the_scaled_gradient():
    problems = make_problems(SMALL)
    run = simulate(
        problems.loss, problems.start, method="scaled-gd:damping=0.1", optimizer="adam", step_sizes=[0.01], steps=2
    )
    for i, Z in enumerate(problems.Z):
        A, B = (x[i] for x in problems.start)
        m, v = [0.0, 0.0], [0.0, 0.0]
        for t in (1, 2):
            moved = []
            for j, (x, g) in enumerate(zip((A, B), scaled(A, B, *gradient(Z, A, B), 0.1), strict=True)):
                m[j], v[j] = 0.9 * m[j] + 0.1 * g, 0.999 * v[j] + 0.001 * g**2
                moved.append(x - 0.01 * (m[j] / (1 - 0.9**t)) / (np.sqrt(v[j] / (1 - 0.999**t)) + 1e-8))
            A, B = moved
        np.testing.assert_allclose(run.factors[0][0, i], A, rtol=1e-9)
        np.testing.assert_allclose(run.factors[1][0, i], B, rtol=1e-9)


def test_a_trained_ratio_descends_on_the_penalty_in_log_c():
    problems = make_problems(SMALL)
    name, gamma, strength = "ilora:lambda=0.4,trained=yes", 0.02, 0.4
    run = simulate(problems.loss, problems.start, method=name, step_sizes=[gamma], steps=4)
    for i, Z in enumerate(problems.Z):
        A, B = (x[i] for x in problems.start)
        c = 2 / 6
        for _ in range(4):
            g_A, g_B = gradient(Z, A, B)
            A, B = A - gamma * g_A, B - gamma * g_B

            def penalty(log_c, A=A, B=B):
                return np.sum((B @ B.T - np.exp(log_c) * A.T @ A) ** 2)

            slope = (penalty(np.log(c) + 1e-5) - penalty(np.log(c) - 1e-5)) / 2e-5
            A, B = penalized(A, B, gamma * strength, c)
            c *= np.exp(-gamma * strength * slope / 4)
        np.testing.assert_allclose(run.factors[0][0, i], A, rtol=1e-8)
        np.testing.assert_allclose(run.factors[1][0, i], B, rtol=1e-8)
    again = simulate(problems.loss, problems.start, method=parse_method(name), step_sizes=[gamma], steps=4)
    np.testing.assert_array_equal(again.excess, run.excess)


def test_a_method_can_be_run_twice_with_a_fresh_state():
    problems = make_problems(SMALL)
    method = parse_method("ilora:trained=yes")
    first, second = (simulate(problems.loss, problems.start, method=method, step_sizes=GAMMAS, steps=6) for _ in "ab")
    np.testing.assert_array_equal(first.excess, second.excess)


def test_both_layers_get_the_method():
    problems = make_problems(ProblemSettings(**{**SMALL.meta(), "loss": "two-layer"}))
    gammas = [1e-4]
    plain = simulate(problems.loss, problems.start, step_sizes=gammas, steps=1).factors
    moved = simulate(problems.loss, problems.start, method="lora-plus:lr-ratio=2", step_sizes=gammas, steps=1).factors
    for i in range(4):
        factor = 2 if i % 2 == 0 else 1
        np.testing.assert_allclose(
            moved[i][0] - problems.start[i], factor * (plain[i][0] - problems.start[i]), rtol=1e-9, atol=1e-15
        )
    ilora = simulate(problems.loss, problems.start, method="ilora:lambda=2", step_sizes=gammas, steps=1).factors
    for layer, rows in ((0, 6), (1, 5)):
        A, B = penalized(plain[2 * layer][0, 0], plain[2 * layer + 1][0, 0], 2e-4, 2 / rows)
        np.testing.assert_allclose(ilora[2 * layer][0, 0], A, rtol=1e-12)
        np.testing.assert_allclose(ilora[2 * layer + 1][0, 0], B, rtol=1e-12)


def test_each_penalty_drives_its_own_gap_down():
    problems = make_problems(SMALL)
    for name, ratio in (("ilora-balanced:lambda=2", 1.0), ("ilora:lambda=2", 2 / 6)):
        A, B = simulate(problems.loss, problems.start, method=name, step_sizes=[0.02], steps=300).factors

        def gap(A, B, ratio=ratio):
            return np.linalg.norm(B @ B.mT - ratio * A.mT @ A, axis=(-2, -1)).max()

        assert gap(A, B) < 0.02 * gap(*problems.start)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_torch_equals_numpy_and_batches_do_not_mix(name, optimizer):
    problems = make_problems(SMALL)
    options = {"method": name, "optimizer": optimizer, "steps": 8}
    run = simulate(problems.loss, problems.start, step_sizes=[1e-3, 5e-3, 40.0], **options)
    alone = simulate(problems.loss, problems.start, step_sizes=[5e-3], **options)
    np.testing.assert_array_equal(run.excess[:, 1], alone.excess[:, 0])
    torch = simulate(problems.loss, problems.start, step_sizes=[1e-3, 5e-3], device="cpu", **options)
    np.testing.assert_allclose(torch.excess, run.excess[:, :2], rtol=1e-7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["ilora:lambda=1e6", "ilora:lambda=1e300", "pilora:lambda=1e6", "ilora:trained=yes"])
def test_an_exploding_penalty_is_divergence(name):
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, method=name, step_sizes=[1e-9, 1.0, 1e60], steps=40)
    assert (run.diverged_at[1:] > 0).all()
    assert not np.isnan(run.excess).any()
    assert not np.isnan(run.imbalance).any()
    assert all(np.isfinite(x).all() for x in run.factors)
    if name == "ilora:trained=yes":
        assert (run.diverged_at[0] == -1).all()


def test_a_singular_gram_matrix_ends_its_trajectory_only():
    problems = make_problems(SMALL)
    A, B = (x.copy() for x in problems.start)
    A[1, :, 1] = A[1, :, 0]
    run = simulate(problems.loss, (A, B), method="scaled-gd:damping=0", step_sizes=[0.01], steps=3)
    assert run.diverged_at[0].tolist() == [-1, 1, -1]
    alone = simulate(problems.loss, problems.start, method="scaled-gd:damping=0", step_sizes=[0.01], steps=3)
    np.testing.assert_array_equal(run.excess[:, 0, 0], alone.excess[:, 0, 0])
    B[2, 1] = B[2, 0]
    run = simulate(problems.loss, (A, B), method="scaled-gd:damping=0", step_sizes=[0.01], steps=3)
    assert run.diverged_at[0].tolist() == [-1, 1, 1]
    with pytest.raises(ValueError, match="singular"):
        simulate(problems.loss, (0 * A, B), method="scaled-gd:damping=0", step_sizes=[0.01], steps=3)
    damped = simulate(problems.loss, (0 * A, problems.start[1]), method="scaled-gd", step_sizes=[0.01], steps=3)
    assert (damped.diverged_at == -1).all()


def test_projection_is_idle_under_scaled_gd_without_damping():
    problems = make_problems(SMALL)
    with_it, without = (
        simulate(problems.loss, problems.start, method=f"{name}:damping=0", step_sizes=[0.05], steps=20).excess
        for name in ("balora-scaled-gd", "scaled-gd")
    )
    np.testing.assert_allclose(with_it, without, rtol=1e-9)


@pytest.mark.parametrize("loss", ["one-layer", "two-layer"])
@pytest.mark.parametrize("start", ["gaussian", "lora"])
@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_reflora_is_balora_from_its_first_projection_on(loss, start, optimizer):
    """Under gradient descent; P leaves LoRA's start alone. Adam sees the gauge, and scalar mode balances less."""
    problems = make_problems(ProblemSettings(**{**SMALL.meta(), "loss": loss, "start": start}))
    projected = tuple(x for i in range(0, len(problems.start), 2) for x in balance(*problems.start[i : i + 2]))
    options = {"step_sizes": [0.01], "steps": 60, "optimizer": optimizer}
    ref, scalar = (
        simulate(problems.loss, problems.start, method=name, **options).excess
        for name in ("reflora", "reflora:mode=scalar")
    )
    balora = simulate(problems.loss, projected, method="balora", **options).excess
    assert np.isfinite(ref).all()
    if optimizer == "gd":
        np.testing.assert_allclose(ref, balora, rtol=1e-10)
    else:
        assert (np.abs(ref[-1] - balora[-1]) > 1e-3 * balora[-1]).all()
    assert (np.abs(ref[-1] - scalar[-1]) > 1e-6 * scalar[-1]).all()


def test_a_null_direction_is_refactored_like_any_pair():
    """Beside regular pairs in one stack; what the fast route cannot do is what `refactored_gradient` does."""
    rng = np.random.default_rng(5)
    A, B, g_A, g_B = (rng.standard_normal((4, *shape)) for shape in ((6, 2), (2, 5), (6, 2), (2, 5)))
    A[1], B[2, 1] = 0.0, B[2, 0]
    A[3] *= 1e60
    moved = Refactoring("matrix")((A, B), (g_A, g_B))
    for i in range(4):
        for mine, theirs in zip(moved, refactored_gradient(A[i], B[i], g_A[i], g_B[i]), strict=True):
            np.testing.assert_allclose(mine[i], theirs, rtol=1e-10, atol=1e-12 * np.abs(theirs).max())
    np.testing.assert_array_equal(moved[0][1], g_A[1])


def test_names_carry_options_and_periods():
    method = parse_method("ilora:lambda=0.1, factor=2@5")
    assert (method.name, method.every, method.faster) == ("ilora:lambda=0.1, factor=2@5", 5, 1.0)
    assert method.options == {"lambda": 0.1, "factor": 2.0, "power": 1.0, "trained": "no"}
    assert parse_method("ilora").options["lambda"] == 1.0
    assert parse_method("scaled-gd:damping=0").options == {"damping": 0.0}
    assert parse_method("pilora").options == {
        "lambda": 1.0,
        "factor": 1.0,
        "power": 1.0,
        "trained": "no",
        "damping": 1e-6,
    }
    assert parse_method("ilora:power=-1.5").options["power"] == -1.5
    assert parse_method("lora-plus").faster == 16
    assert parse_method("lora").every == 1
    preconditioned = {name for name in PARTS if parse_method(name).preconditioned}
    assert preconditioned == {"scaled-gd", "pilora", "balora-scaled-gd"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dora", "unknown method 'dora'; choose from lora, balora"),
        ("ilora:lambda=0", "lambda must be finite and > 0, but is 0"),
        ("ilora:lambda=-1", "lambda must be finite and > 0"),
        ("ilora:lambda=nan", "lambda must be finite and > 0, but is nan"),
        ("ilora:lambda=inf", "lambda must be finite and > 0"),
        ("ilora:lambda=much", "lambda must be a number, not 'much'"),
        ("ilora:factor=0", "factor must be finite and > 0"),
        ("ilora:power=inf", "power must be finite, but is inf"),
        ("ilora:power=nan", "power must be finite, but is nan"),
        ("ilora:trained=2", "trained must be no or yes, not '2'"),
        ("ilora:ratio=fixed", "ilora has no option 'ratio'; it is called trained now"),
        ("ilora:strength=2", "ilora has no option 'strength'; choose from lambda, factor, power, trained"),
        ("ilora:lambda=1,lambda=2", "lambda is given twice"),
        ("ilora:lambda", "'lambda' is not KEY=VALUE"),
        ("ilora:", "'' is not KEY=VALUE"),
        ("ilora-balanced:factor=2", "ilora-balanced has no option 'factor'"),
        ("lora:lambda=1", "lora has no option 'lambda'; it has none"),
        ("scaled-gd:damping=-1", "damping must be finite and ≥ 0"),
        ("lora-plus:lr-ratio=0", "lr-ratio must be finite and > 0"),
        ("lora@2", "'lora@2': lora does nothing after a step that @2 could make rarer"),
        ("scaled-gd@3", "scaled-gd does nothing after a step that @3 could make rarer"),
        ("ilora:scale=2", "ilora has no option 'scale'; it is called factor now"),
        ("balora-plus:ratio=4", "balora-plus has no option 'ratio'; it is called lr-ratio now"),
        ("balora:moments=keep", "balora has no option 'moments'; it has none"),
        ("balora@0", "what follows @ must be a positive integer"),
        ("balora@", "what follows @ must be a positive integer"),
        ("ilora:lambda=1@x", "what follows @ must be a positive integer"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        parse_method(name)
    assert message in str(raised.value)


def test_lists_of_names():
    names = ["lora", "ilora:lambda=1,factor=2@5", "balora@2"]
    assert split_method_names("lora, ilora:lambda=1,factor=2@5 ,balora@2,") == names
    assert split_method_names("ilora:lambda=1,pilora:factor=2,power=3") == ["ilora:lambda=1", "pilora:factor=2,power=3"]
    for text in ("factor=2,ilora", "ilora,factor=2", "ilora:lambda=1@5,factor=2"):
        with pytest.raises(ValueError, match="'factor=2' belongs to no method"):
            split_method_names(text)


@pytest.mark.parametrize("r", [2, 3])
def test_a_nearly_singular_pair_is_nan_and_leaves_the_others_alone(r):
    """Gram matrices that are positive in floats, but beyond what can be inverted; in A or in B."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((3, 5, r)), rng.standard_normal((3, r, 4))
    A[0, :, -1] = A[0, :, 0] * (1 + 1e-12)
    B[2, -1] = 1e-12 * B[2, 0]
    g_A, g_B = rng.standard_normal(A.shape), rng.standard_normal(B.shape)
    moved = Preconditioning(0.0)((A, B), (g_A, g_B))
    for i in (0, 2):
        assert all(np.isnan(x[i]).all() for x in moved)
    for mine, theirs in zip(moved, scaled(A[1], B[1], g_A[1], g_B[1], 0.0), strict=True):
        np.testing.assert_allclose(mine[1], theirs, rtol=1e-9)
    with pytest.raises(ValueError, match="damping"):
        Preconditioning(0.0)((A[:1], B[:1]), (g_A[:1], g_B[:1]))


def test_a_penalty_step_explodes_beyond_its_largest_move_only():
    """γλ·max(ratio, 1)·(largest entry)³ against the limit; for other pairs of the stack nothing changes."""
    large = 2.0**110
    A, B = np.ones((4, 2, 1)), np.ones((4, 1, 2))
    A[0, 0, 0] = B[1, 0, 1] = large
    sizes = np.full(4, 0.25 * LARGEST_MOVE / large**3)
    sizes[2:] = 0.1
    for factor, explodes in ((1.0, False), (3.0, False), (5.0, True)):
        penalty = Penalty(strength=1.0, factor=factor, power=0.0, trained=False)()
        with np.errstate(over="ignore", invalid="ignore"):
            moved = penalty((A, B), sizes)
        for i in (0, 1):
            assert (np.isinf(moved[0][i]) & (moved[0][i] > 0)).all() == explodes
        expected = penalized(A[2], B[2], 0.1, factor)
        np.testing.assert_allclose(moved[0][2], expected[0])
        np.testing.assert_allclose(moved[1][3], expected[1])
    penalty = Penalty(strength=8.0, factor=0.5, power=0.0, trained=False)()  # λ counts, a ratio below 1 does not
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isinf(penalty((A, B), sizes)[0][:2]).all()
    for strength, explodes in ((3.0, False), (5.0, True)):
        penalty = Penalty(strength=strength, factor=0.5, power=0.0, trained=False)()
        assert np.isinf(penalty((A, B), sizes)[0][0]).all() == explodes
