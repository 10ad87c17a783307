"""Curvature in the factors of one layer, against constructions that share no code with it."""

import json
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from lorakappa.conditioning import GAUGES, balance, hessian
from lorakappa.llm.adapters.audit import audit_pair
from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.llm.curvature.gauges import Gauge, symmetric_gauge
from lorakappa.llm.curvature.layer_loss import LayerLoss, differentiable
from lorakappa.llm.curvature.solvers import PROBES
from lorakappa.llm.curvature.spectra import PATH, curvature
from lorakappa.llm.curvature.tables import curvature_notes, curvature_tables
from lorakappa.shared.records import write_json
from tests.llm.models import tokens, unbalance, with_lora

LAYER = "layers.1.self_attn.q_proj"


def micro(r=2, **config):
    """One tiny layer more than needed, so that something depends on the adapted one."""
    torch.manual_seed(0)
    base = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=11,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            use_cache=False,
            initializer_range=0.4,
            dtype=torch.float32,
        )
    )
    config.setdefault("target_modules", ["q_proj", "down_proj"])
    return unbalance(with_lora(base, r=r, **config))


def examples(padding=0):
    """Two sequences with labels on their last tokens; the second one may be padded on the right."""
    ids = tokens(2, 6) % 11
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :3] = -100
    if padding:
        ids[1, -padding:], labels[1, -padding:], mask[1, -padding:] = 0, -100, 0
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def find(model, name=LAYER):
    return next(pair for pair in lora_pairs(model) if name in pair.name)


@pytest.fixture(scope="module")
def model():
    return micro()


@pytest.fixture(scope="module")
def report(model):
    chosen = [LAYER, "layers.0.mlp"]
    return curvature(model, examples(), layers=chosen, solver="dense", path=(-1, -0.5, 0.5, 1.5, 2), progress=False)


def layer_loss(model, batch, dtype=torch.float64, **kwargs):
    weights = {name: p.detach().to(dtype) for name, p in model.named_parameters()}
    return LayerLoss(model, weights, find(model), batch, **kwargs)


@pytest.fixture(scope="module")
def matrices(model):
    """The layer's loss, its point, GGN and Hessian."""
    with differentiable(model):
        loss = layer_loss(model, examples(), chunk=7)
        identity = torch.eye(loss.d, dtype=torch.float64)
        G, H = loss.ggn_products(loss.point, identity), loss.hessian_products(loss.point, identity)
    return loss, loss.point.numpy(), G.numpy(), H.numpy()


def orbit(A, B):
    """(r², d) orthonormal basis of the tangent space {(AX, −XB)} of the gauge orbit."""
    r = A.shape[1]
    units = np.eye(r * r).reshape(-1, r, r)
    return np.linalg.qr(np.stack([np.concatenate([(A @ X).ravel(), -(X @ B).ravel()]) for X in units]).T)[0].T


def pair_of(loss, x):
    A, B = np.split(x, [loss.a * loss.r])
    return A.reshape(loss.a, loss.r), B.reshape(loss.r, loss.b)


def test_the_hessian_is_what_finite_differences_of_the_gradient_give(model, matrices):
    loss, _, _, H = matrices
    np.testing.assert_allclose(H, H.T, atol=1e-13)
    step = 1e-5
    with differentiable(model):
        for i in range(0, loss.d, 5):
            e = torch.zeros(loss.d, dtype=torch.float64)
            e[i] = step
            difference = (loss.gradient(loss.point + e) - loss.gradient(loss.point - e)) / (2 * step)
            np.testing.assert_allclose(H[i], difference.numpy(), rtol=1e-6, atol=1e-8 * np.abs(H).max())


def test_the_hessian_is_that_of_the_models_own_loss(model, matrices):
    loss, _, _, H = matrices
    pair, batch = find(model), examples()
    factors = (pair.left.detach().requires_grad_(), pair.right.detach().requires_grad_())
    with differentiable(model):

        def own(*factors):
            replaced = {loss.left: factors[0], loss.right: factors[1]}
            return torch.func.functional_call(model, replaced, (), batch).loss

        value = own(*factors)
        blocks = torch.autograd.functional.hessian(own, factors)
    sizes = [factor.numel() for factor in factors]
    expected = torch.cat(
        [torch.cat([b.reshape(n, -1) for b in row], dim=1) for n, row in zip(sizes, blocks, strict=True)]
    )
    np.testing.assert_allclose(H, expected.numpy(), atol=2e-5 * np.abs(H).max())  # the model computes in float32
    assert value.item() == pytest.approx(loss.value(loss.point).item(), rel=1e-6)


def test_the_ggn_is_the_jacobian_with_the_covariance_of_the_softmax(model, matrices):
    loss, _, G, _ = matrices
    with differentiable(model):
        J = torch.autograd.functional.jacobian(loss.logits, loss.point)
        p = loss.logits(loss.point).softmax(-1)
    expected = torch.zeros(loss.d, loss.d, dtype=torch.float64)
    for token in range(loss.tokens):
        covariance = torch.diag(p[token]) - torch.outer(p[token], p[token])
        expected += J[token].T @ covariance @ J[token] / loss.tokens
    assert loss.tokens == 6
    np.testing.assert_allclose(G, expected.numpy(), atol=1e-14 * np.abs(G).max())


def test_the_ggn_is_the_expected_squared_score(model, matrices):
    loss, _, G, _ = matrices
    with differentiable(model):
        log_p = loss.logits(loss.point).log_softmax(-1)
        scores = torch.autograd.functional.jacobian(lambda x: loss.logits(x).log_softmax(-1), loss.point)
    fisher = torch.einsum("nv,nvi,nvj->ij", log_p.exp(), scores, scores) / loss.tokens
    np.testing.assert_allclose(G, fisher.numpy(), atol=1e-14 * np.abs(G).max())


def test_the_gauge_orbit_is_in_the_kernel_of_the_ggn_but_of_the_hessian_only_up_to_the_gradient(model, matrices):
    loss, x, G, H = matrices
    A, B = pair_of(loss, x)
    basis = orbit(A, B)
    assert basis.shape == (4, loss.d)
    assert np.abs(G @ basis.T).max() < 1e-13 * np.abs(G).max()
    assert np.abs(H @ basis.T).max() > 1e-3 * np.abs(H).max()
    with differentiable(model):
        g_A, g_B = pair_of(loss, loss.gradient(loss.point).numpy())
    X = np.random.default_rng(0).standard_normal((loss.r, loss.r))
    v = np.concatenate([(A @ X).ravel(), -(X @ B).ravel()])
    assert v @ H @ v == pytest.approx(-np.sum(g_A * (A @ X @ X)) - np.sum(g_B * (X @ X @ B)), rel=1e-9)


def test_a_gauge_is_a_congruence_of_both_matrices_and_of_the_gradient(model, matrices):
    loss, x, G, H = matrices
    rng = np.random.default_rng(1)
    T = np.eye(loss.r) + 0.5 * rng.standard_normal((loss.r, loss.r))
    gauge = Gauge(T, np.linalg.inv(T), loss.a)
    A, B = pair_of(loss, x)
    moved = gauge.inverse(x[None])[0]
    np.testing.assert_allclose(moved, np.concatenate([(A @ T).ravel(), (gauge.T_inv @ B).ravel()]), rtol=1e-13)
    np.testing.assert_allclose(gauge.forward(moved[None])[0], x, rtol=1e-12, atol=1e-13)
    identity, there = torch.eye(loss.d, dtype=torch.float64), torch.from_numpy(moved)
    with differentiable(model):
        afresh = loss.ggn_products(there, identity).numpy(), loss.hessian_products(there, identity).numpy()
        gradients = loss.gradient(loss.point).numpy(), loss.gradient(there).numpy()
    for matrix, expected in zip((G, H), afresh, strict=True):
        np.testing.assert_allclose(gauge.congruence(matrix), expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(gauge.adjoint(gradients[0][None])[0], gradients[1], atol=1e-14)


def test_the_congruence_is_that_of_the_quadratic_loss_at_any_point():
    rng = np.random.default_rng(0)
    A, B, Z, T = (rng.standard_normal(shape) for shape in ((5, 2), (2, 4), (5, 4), (2, 2)))
    gauge = Gauge(T, np.linalg.inv(T), 5)
    expected = hessian(A @ T, gauge.T_inv @ B, Z)
    np.testing.assert_allclose(gauge.congruence(hessian(A, B, Z)), expected, atol=1e-12 * np.abs(expected).max())


def test_the_three_balanced_gauges_have_one_spectrum(matrices):
    loss, x, G, H = matrices
    A, B = pair_of(loss, x)
    T = symmetric_gauge(A, B)
    np.testing.assert_allclose(A @ T, balance(A, B, gauge="symmetric")[0], rtol=1e-9, atol=1e-12)
    for matrix in (G, H):
        spectra = []
        for name in GAUGES:
            X, Y = balance(A, B, gauge=name)
            S = np.linalg.lstsq(A, X, rcond=None)[0]
            np.testing.assert_allclose(S @ Y, B, atol=1e-12)
            spectra.append(np.linalg.eigvalsh(Gauge(S, np.linalg.inv(S), loss.a).congruence(matrix)))
        np.testing.assert_allclose(spectra[1:], [spectra[0]] * 2, atol=1e-12 * np.abs(spectra[0]).max())


def test_the_report_has_the_eigenvalues_of_both_matrices(model, report, matrices):
    loss, x, G, H = matrices
    (layer,) = [layer for layer in report.layers if LAYER in layer.name]
    assert (layer.shape, layer.r, layer.d, layer.solver) == ((8, 8), 2, 32, "dense")
    assert [point.t for point in layer.path] == [-1, -0.5, 0, 0.5, 1, 1.5, 2]
    for spectrum, matrix in ((layer.trained.ggn, G), (layer.trained.hessian, H)):
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)[::-1]
        np.testing.assert_allclose(spectrum.leading, values, atol=1e-13 * values[0])
        assert spectrum.trace == pytest.approx(np.trace(matrix), rel=1e-10)
        assert (spectrum.lambda_max, spectrum.lambda_min) == (spectrum.leading[0], spectrum.leading[-1])
        assert spectrum.negative == np.sum(values < -spectrum.tolerance)
        assert spectrum.kappa["2r"] == pytest.approx(values[0] / values[3] if values[3] > 0 else np.inf)
        assert spectrum.trace_error == 0
    assert layer.trained.ggn.negative == 0
    assert layer.p == {"r": 2, "2r": 4, "r²": 4, "rank": layer.trained.ggn.rank, "d − r²": 28}
    A, B = pair_of(loss, x)
    audit = audit_pair(torch.from_numpy(A), torch.from_numpy(B))
    assert layer.trained.kappa_bound == pytest.approx(audit.kappa_bound)
    assert layer.balanced.kappa_bound == pytest.approx(audit.kappa_bound_balanced)
    assert report.dtype == "float64"
    assert report.loss == pytest.approx(model(**examples()).loss.item(), rel=1e-5)
    assert (report.tokens, report.vocabulary) == (6, 11)


def test_along_the_path_the_loss_and_the_inertia_stay_and_the_ggn_is_log_convex(report):
    for layer in report.layers:
        assert layer.loss_change < 1e-13
        assert layer.covariance_error < 1e-11
        assert layer.trained.ggn.rank == layer.balanced.ggn.rank <= layer.rank_bound
        assert layer.trained.hessian.negative == layer.balanced.hessian.negative
        t = np.asarray([point.t for point in layer.path])
        for measure in ("lambda_max", "trace"):
            logs = np.log([getattr(point.ggn, measure) for point in layer.path])
            slopes = np.diff(logs) / np.diff(t)
            assert (np.diff(slopes) > -1e-10).all()
            assert layer.lowest(measure) == t[np.argmin(logs)]


def test_a_rank_deficient_ggn_is_called_so(report):
    notes = curvature_notes(report)
    assert len(notes) == 1 + len(report.layers) + 2
    for layer, note in zip(report.layers, notes[1:-2], strict=True):
        rank, kernel = layer.p["rank"], layer.d - layer.r**2
        assert layer.trained.ggn.kappa["d − r²"] == (np.inf if rank < kernel else layer.trained.ggn.kappa["rank"])
        assert ("its κ is infinite" in note) == (rank < kernel)


def test_one_token_bounds_the_rank_by_the_vocabulary(model):
    batch = examples()
    batch["labels"][:] = -100
    batch["labels"][0, 4] = 3
    report = curvature(model, batch, layers=[LAYER], path=(), progress=False)
    (layer,) = report.layers
    assert (report.tokens, layer.rank_bound) == (1, 10)
    assert layer.trained.ggn.rank <= 10
    assert layer.balanced.ggn.kappa["d − r²"] == np.inf


@pytest.fixture(scope="module")
def lanczos(model):
    return curvature(model, examples(), layers=[LAYER], solver="lanczos", progress=False)


def test_lanczos_finds_the_extremes_of_the_dense_matrices_and_estimates_the_trace(report, lanczos):
    (sparse,) = lanczos.layers
    (dense,) = [layer for layer in report.layers if LAYER in layer.name]
    assert [point.t for point in sparse.path] == [0, 1]
    assert "rank" not in sparse.p
    for t in (0.0, 1.0):
        for key in ("ggn", "hessian"):
            found, exact = getattr(sparse.at(t), key), getattr(dense.at(t), key)
            np.testing.assert_allclose(found.leading, exact.leading[: len(found.leading)], rtol=1e-5)
            assert found.lambda_min == pytest.approx(exact.lambda_min, rel=1e-4, abs=1e-12)
            assert abs(found.trace - exact.trace) < 4 * found.trace_error
            assert found.rank is found.negative is None
            assert found.kappa["r"] == pytest.approx(exact.kappa["r"], rel=1e-5)
    assert f"estimates from {PROBES} probes" in curvature_notes(lanczos)[1]


def test_padding_and_unlabelled_tokens_count_for_nothing(model):
    padded = examples(padding=2)
    longer = {
        key: nn.functional.pad(value, (0, 3), value=-100 if key == "labels" else 0) for key, value in padded.items()
    }
    reports = [curvature(model, batch, layers=[LAYER], path=(), progress=False) for batch in (padded, longer)]
    assert reports[0].tokens == reports[1].tokens == 4
    np.testing.assert_allclose(
        reports[0].layers[0].trained.hessian.leading,
        reports[1].layers[0].trained.hessian.leading,
        atol=1e-13,
    )
    assert reports[0].loss == pytest.approx(model(**padded).loss.item(), rel=1e-5)


def test_it_is_deterministic_and_leaves_the_model_as_it_was(model, lanczos, capsys):
    model.train()
    model.base_model.model.lm_head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    again = curvature(model, examples(), layers=[LAYER], solver="lanczos", path=())
    assert again == lanczos
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert capsys.readouterr().out == ""


def test_float32_says_so_and_eager_attention_gives_the_same(report):
    single = curvature(micro(), examples(), layers=[LAYER], path=(), double=False, progress=False)
    assert single.dtype == "float32"
    eager_model = micro()
    eager_model.set_attn_implementation("eager")
    eager = curvature(eager_model, examples(), layers=[LAYER], path=(), progress=False)
    (expected,) = [layer for layer in report.layers if LAYER in layer.name]
    assert single.layers[0].trained.ggn.lambda_max == pytest.approx(expected.trained.ggn.lambda_max, rel=1e-4)
    assert single.layers[0].trained.ggn.tolerance > 1e6 * expected.trained.ggn.tolerance
    np.testing.assert_allclose(eager.layers[0].trained.ggn.leading, expected.trained.ggn.leading, atol=1e-13)


def test_layers_are_chosen_by_name_index_or_bound(model):
    def names(layers):
        report = curvature(model, examples(), layers=layers, path=(), progress=False)
        return [layer.name for layer in report.layers]

    everything = [pair.name for pair in lora_pairs(model)]
    assert names(["q_proj"]) == [name for name in everything if "q_proj" in name]
    assert names([3, "0"]) == [everything[0], everything[3]]
    larger = micro(r=1, target_modules=["q_proj", "v_proj", "up_proj"])
    pairs = sorted(lora_pairs(larger), key=lambda pair: audit_pair(pair.A, pair.B).kappa_bound)
    chosen = {layer.name for layer in curvature(larger, examples(), path=(), progress=False).layers}
    assert chosen == {pair.name for pair in pairs[:2] + pairs[-2:]}


def test_the_tables_show_every_layer_and_the_json_can_be_written(report, tmp_path):
    console = Console(width=120, record=True, file=StringIO())
    console.print(*curvature_tables(report))
    text = console.export_text()
    assert text.count("layers.1.self_attn.q_proj") == 2 + 3  # of the pairs, and of all gauges
    assert text.count("lowest at t") == 2
    assert "…" not in text
    meta = json.loads(write_json(tmp_path / "curvature.json", report.as_dict()).read_text())
    assert meta["layers"][0]["path"][2]["ggn"]["lambda_max"] == report.layers[0].trained.ggn.lambda_max


def test_the_default_path_passes_through_both_pairs():
    assert {0.0, 1.0} <= set(PATH)
    assert (PATH[0], PATH[-1]) == (-1, 2)
