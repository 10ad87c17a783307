"""Verdicts on what is measured: the words, the margin that makes a null result a result, and the setting they name."""

import pytest

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.verification import (
    Measurement,
    Verdict,
    all_of,
    decide,
    measured_claim,
    report,
)


@pytest.mark.parametrize(
    ("interval", "options", "verdict"),
    [
        ((0.1, 0.2), {}, "holds"),
        ((0.0, 0.2), {}, "inconclusive"),
        ((-0.2, 0.0), {}, "inconclusive"),
        ((-0.2, -0.1), {}, "not seen"),
        ((0.0, 0.0), {}, "inconclusive"),  # without a margin nothing is equivalent
        ((0.0, 0.0), {"margin": 0.1}, "equivalent"),
        ((0.01, 0.09), {"margin": 0.1}, "equivalent"),
        ((0.01, 0.1), {"margin": 0.1}, "holds"),
        ((-0.1, 0.0), {"margin": 0.1}, "inconclusive"),
        ((-0.1, -0.01), {"margin": 0.1}, "not seen"),
        ((1.1, 1.2), {"threshold": 1.0}, "holds"),
        ((0.8, 0.9), {"threshold": 1.0}, "not seen"),
        ((0.96, 1.04), {"threshold": 1.0, "margin": 0.05}, "equivalent"),
    ],
)
def test_an_interval_decides(interval, options, verdict):
    assert decide(interval, **options) == verdict


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (["holds", "holds"], "holds"),
        (["equivalent", "equivalent"], "equivalent"),
        (["holds", "equivalent"], "inconclusive"),
        (["holds", "inconclusive"], "inconclusive"),
        (["holds", "inconclusive", "not seen"], "not seen"),
        (["equivalent"], "equivalent"),
    ],
)
def test_several_effects_decide_together(verdicts, together):
    assert all_of(verdicts) == together


def claim(verdict="not seen", **options):
    """A claim on 3 instances of a setting, with that outcome."""

    @measured_claim("planted-measured", "It is so.", domain="a small setting; and details", trials=3, **options)
    def measure(trials, seed):
        """Rule: none."""
        return Measurement(verdict, trials, None, "gain -1.0 [-2.0, -0.5]")

    return measure


def test_a_verdict_names_its_setting_in_table_and_json():
    planted = claim(recorded="not seen", corrected_by="something-else")
    verdict = planted.examine(seed=4)
    assert (verdict.verdict, verdict.trials, verdict.seed, verdict.as_recorded) == ("not seen", 3, 4, True)
    data = verdict.as_json()
    assert (data["verdict"], data["setting"], data["domain"]) == ("not seen", "a small setting", planted.domain)
    row = report.markdown_table([verdict]).splitlines()[-1]
    assert row.endswith("**not seen**: gain -1.0 [-2.0, -0.5]; setting: a small setting → something-else |")


def test_what_is_decided_by_algebra_has_no_setting():
    verdict = CLAIMS["model1-smoothness"].examine(trials=20)
    assert verdict.as_json()["setting"] is None
    assert "setting" not in report.summary(verdict)


def test_only_a_certificate_refutes():
    with pytest.raises(ValueError, match="a measurement says holds, not seen, equivalent, inconclusive, not 'refuted'"):
        claim("refuted").examine()
    with pytest.raises(ValueError, match="planted-measured is measured, so it cannot be refuted"):
        claim(recorded="refuted")
    with pytest.raises(ValueError, match="only a certified counterexample refutes"):
        Verdict(claim=claim(), verdict="refuted", trials=1, seed=0, worst_margin=None)


def test_an_equivalent_verdict_is_as_recorded_or_not_like_any_other():
    assert claim("equivalent", recorded="equivalent").examine().as_recorded
    assert not claim("equivalent", recorded="inconclusive").examine().as_recorded
