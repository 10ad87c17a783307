"""The package's claims: each rule decides as stated, and the cheap claims come out as recorded."""

import numpy as np
import pytest

from lorakappa.synthetic.claims import CLAIMS, critics, rates
from lorakappa.synthetic.results import Result

ISSUED = [
    "gd-rate",
    "gd-rate-tight",
    "sign-gd-rate",
    "sign-gd-rate-sharp",
    "balora-rate",
    "balora-beats-lora-gd",
    "balora-beats-lora-sign-gd",
    "balora-beats-lora-adam",
    "same-kappa-same-curve",
    "not-a-step-rescale",
    "flow-conserves-imbalance",
    "overhead-per-step",
    "ilora-beats-lora",
    "pilora-beats-lora",
    "pilora-beats-preconditioned",
    "balora-versus-ilora",
    "ilora-ratio-optimal",
    "ilora-overhead",
    "scaled-gd-rate-measured",
]


def test_every_promised_claim_is_there_and_states_its_rule():
    assert set(ISSUED) <= set(CLAIMS)
    for claim in CLAIMS.values():
        assert "Rule:" in claim.argument or "Proof:" in claim.argument


@pytest.mark.parametrize(
    "id", ["gd-rate", "gd-rate-tight", "sign-gd-rate", "sign-gd-rate-sharp", "sign-gd-rate-exact", "balora-rate"]
)
def test_rate_claims_come_out_as_recorded(id):
    verdict = CLAIMS[id].examine(trials=12, seed=5)
    assert verdict.verdict == CLAIMS[id].recorded == "holds", verdict.note
    assert verdict.evidence["conclusive"] >= 0.8 * 12
    assert not verdict.certified


def test_flow_claims_come_out_as_recorded():
    for id in ("same-kappa-same-curve", "flow-conserves-imbalance"):
        assert CLAIMS[id].examine(trials=3, seed=6).verdict == "holds"
    verdict = CLAIMS["gd-step-imbalance"].examine(trials=150, seed=5)
    assert verdict.verdict == "holds"
    assert verdict.evidence["exact_instances"] > 10


def fake_rates(**summary):
    line = {"conclusive": 10, "violations": 0, "log_ratio_min": 1.0, "log_ratio_max": 1.0, **summary}
    return lambda **_: Result("rates", {}, {"summary": [line], "settings": {}}, 0)


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        ({}, "holds"),
        ({"violations": 1}, "not seen"),
        ({"conclusive": 7}, "inconclusive"),
        ({"conclusive": 7, "violations": 1}, "inconclusive"),
        ({"log_ratio_max": 1.009}, "holds"),
        ({"log_ratio_max": 1.011}, "not seen"),
        ({"log_ratio_min": 0.989}, "not seen"),
    ],
)
def test_the_rule_of_the_tight_rate(monkeypatch, summary, verdict):
    monkeypatch.setattr(rates, "rates", fake_rates(**summary))
    assert CLAIMS["gd-rate-tight"].examine(trials=10, seed=0).verdict == verdict


def test_a_bound_that_is_only_valid_need_not_be_tight(monkeypatch):
    monkeypatch.setattr(rates, "rates", fake_rates(log_ratio_max=5.0))
    assert CLAIMS["sign-gd-rate"].examine(trials=10, seed=0).verdict == "holds"
    assert CLAIMS["gd-rate"].examine(trials=10, seed=0).verdict == "holds"
    assert CLAIMS["balora-rate"].examine(trials=10, seed=0).verdict == "not seen"


@pytest.mark.parametrize(
    ("id", "change", "verdict"),
    [
        ("same-kappa-same-curve", {}, "holds"),
        ("same-kappa-same-curve", {"deviation_exponent": 0.8}, "not seen"),
        ("same-kappa-same-curve", {"equal_kappa_log_rate_difference": 0.11}, "not seen"),
        ("same-kappa-same-curve", {"equal_kappa_log_rate_difference": 0.09}, "holds"),
        ("same-kappa-same-curve", {"equal_kappa_difference": 0.02}, "not seen"),
        ("same-kappa-same-curve", {"equal_kappa_conclusive_share": 0.4}, "inconclusive"),
        ("flow-conserves-imbalance", {}, "holds"),
        ("flow-conserves-imbalance", {"drift_one_step_exponent": 1.9}, "not seen"),
        ("flow-conserves-imbalance", {"drift_fixed_time_exponent": 1.2}, "not seen"),
    ],
)
def test_the_rules_of_the_critics_questions(monkeypatch, id, change, verdict):
    meta = {
        "deviation_exponent": 0.98,
        "imbalance_exponent": 1.0,
        "equal_kappa_log_rate_difference": 0.01,
        "equal_kappa_conclusive_share": 1.0,
        "equal_kappa_difference": 0.001,
        "equal_kappa_imbalance": [0.1, 0.0],
        "drift_one_step_exponent": 2.0,
        "drift_fixed_time_exponent": 1.0,
        **change,
    }
    monkeypatch.setattr(critics, "settle", lambda settings, **_: Result("settle", {}, meta, 0))
    assert CLAIMS[id].examine(trials=3, seed=0).verdict == verdict


def test_diverged_seeds_count_against_the_method_that_diverges():
    from lorakappa.synthetic.experiments.convergence import _comparisons

    curves = np.ones((2, 2, 4))
    curves[1, 0] = 1e-3
    curves[1, 1] = [1e-5, 1e-5, 1e-5, np.inf]
    (line,) = _comparisons(["lora", "balora"], curves, 0)
    assert line["diverged"] == [0, 1]
    assert line["log10_gain"]["wins"] == 3
    assert line["log10_gain"]["n"] == 4
    curves[1, 1, 2:] = np.inf
    (line,) = _comparisons(["lora", "balora"], curves, 0)
    assert line["log10_gain"]["median"] == pytest.approx((2 - 9) / 2)


def test_scaled_gd_claims_come_out_as_recorded():
    verdict = CLAIMS["scaled-gd-rate-measured"].examine(trials=9, seed=3)
    assert verdict.verdict == "holds", verdict.note
    assert np.ptp(np.log10(verdict.evidence["kappa"])) > 2
    assert CLAIMS["scaled-gd-makes-balance-idle"].examine(trials=2, seed=3).verdict == "holds"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"log_ratio": 1.02}, "not seen"),
        ({"log_ratio": 0.98}, "not seen"),
        ({"log_ratio": 1.02, "uncertainty": 0.03}, "holds"),
        ({"conclusive": False}, "inconclusive"),
    ],
)
def test_the_rule_of_the_scaled_rate(monkeypatch, change, verdict):
    row = {"conclusive": True, "log_ratio": 1.0, "uncertainty": 1e-3, "kappa": 10.0, "kappa_scaled": 2.0}

    def fake(Z, r, *, seed):
        found = {name: np.full(len(Z), value) for name, value in row.items()}
        s = np.linalg.svd(Z, compute_uv=False)
        assert np.allclose(s[::3, 2:], 0, atol=1e-9)  # a third of the targets has rank r
        assert (s[1::3, 2] > 0.5).all()
        for name, value in change.items():
            found[name][:3] = value
        return found

    monkeypatch.setattr(rates, "scaled_gd_rates", fake)
    assert CLAIMS["scaled-gd-rate-measured"].examine(trials=9, seed=0).verdict == verdict


def test_settle_runs_only_what_is_asked_for():
    from lorakappa.synthetic.experiments.settle import settle
    from lorakappa.synthetic.settings import ProblemSettings

    small = ProblemSettings(shape=(6, 5), rank=3, seeds=3)
    flow = settle(small, experiments=("flow",))
    assert set(flow.arrays) == {"gammas", "drift_one_step", "drift_fixed_time"}
    everything = settle(small, steps=20, step_sizes="auto:5")
    np.testing.assert_array_equal(everything.arrays["drift_one_step"], flow.arrays["drift_one_step"])
    assert {"deviation", "equal_kappa", "rescale_curves"} <= set(everything.arrays)
    for bad in ((), ("flow", "luck")):
        with pytest.raises(ValueError, match="experiments must be some of rescale"):
            settle(small, experiments=bad)


def test_an_experiment_of_two_claims_is_made_once(monkeypatch):
    made = []

    def counted(**arguments):
        made.append(arguments)
        return fake_rates()(**arguments)

    monkeypatch.setattr(rates, "rates", counted)
    for id in ("gd-rate", "gd-rate-tight"):
        assert CLAIMS[id].examine(trials=10, seed=3).verdict == "holds"
    assert made == [{"rules": ("gd",), "instances": 10, "seed": 3}]
    CLAIMS["gd-rate"].examine(trials=10, seed=4)
    CLAIMS["balora-rate"].examine(trials=10, seed=3)
    assert len(made) == 3


def test_claims_that_share_curves_share_a_process():
    together = {}
    for claim in CLAIMS.values():
        together.setdefault(claim.experiment, set()).add(claim.id)
    assert together["gd-rate"] == {"gd-rate", "gd-rate-tight"}
    assert together["ilora"] == {
        "ilora-beats-lora",
        "ilora-trained-ratio-worse",
        "ilora-untuned",
        "ilora-robust-lr",
        "ilora-trained-ratio-close",
        "ilora-keeps-ratio",
    }
    assert together["gd"] == {"balora-beats-lora-gd", "balora-beats-lora-from-balance"}
    assert len(together["adam"]) == len(together["preconditioned"]) - 1 == 5
