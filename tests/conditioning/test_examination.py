"""In which processes and in which order claims are examined."""

import os

import pytest

from lorakappa.conditioning.verification.examination import Known, _examined_together, ensure_feasible, examine, select
from tests.conditioning import planted_claims
from tests.conditioning.planted_claims import CLAIMS, IN_ORDER, planted

MODULE = planted_claims.__name__


def known(*claims, module=MODULE):
    return [Known("planted", module, claim) for claim in claims]


def ids(groups):
    return [[entry.claim.id for entry in group] for group in groups]


def test_claims_on_one_experiment_stay_together_and_the_longest_come_first():
    assert ids(_examined_together(known(*IN_ORDER))) == [["first-of-two", "second-of-two"], ["long"], ["quick"]]


def test_a_claim_named_twice_is_chosen_once_and_what_left_none_is_named():
    by_id = {entry.claim.id: entry for entry in known(*IN_ORDER)}
    assert ids([select(by_id, ["quick", "long", "quick"])]) == [["quick", "long"]]
    with pytest.raises(ValueError, match="none of them has a source that contains 'nobody'"):
        select(by_id, source="nobody")
    other = {"elsewhere": Known("other", MODULE, planted("elsewhere"))}
    with pytest.raises(ValueError, match="none of the named claims is one of other: leave out --package"):
        select(by_id | other, ["quick"], package="other")


def test_packages_share_no_experiment():
    here, there = known(CLAIMS["first-of-two"]), known(CLAIMS["second-of-two"], module="elsewhere")
    assert ids(_examined_together(here + there)) == [["first-of-two"], ["second-of-two"]]


def test_verdicts_come_in_order_and_experiments_in_one_process():
    found = examine(known(*IN_ORDER), trials=None, seed=0, jobs=2, quiet=True)
    assert [verdict.claim.id for verdict in found] == [claim.id for claim in IN_ORDER]
    process = {verdict.claim.id: verdict.note for verdict in found}
    assert process["first-of-two"] == process["second-of-two"]
    assert f"process {os.getpid()}" not in process.values()


@pytest.mark.parametrize(("jobs", "chosen"), [(1, IN_ORDER), (8, IN_ORDER[1::2])])
def test_one_process_or_one_experiment_needs_no_other_process(jobs, chosen):
    found = examine(known(*chosen), trials=None, seed=0, jobs=jobs, quiet=True)
    assert {verdict.note for verdict in found} == {f"process {os.getpid()}"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_one_of_them_is_the_error(jobs):
    with pytest.raises(ValueError, match="failing cannot be measured"):
        examine(known(*IN_ORDER, CLAIMS["failing"]), trials=None, seed=0, jobs=jobs, quiet=True)


def test_what_an_examination_takes_is_told_from_what_each_claim_takes(capsys, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    ensure_feasible(known(planted("a", seconds=60.0), planted("b", seconds=30.0)), trials=10, jobs=3)
    assert "10 instances of 2 claims: about 7.5 minutes expected" in capsys.readouterr().err
    with pytest.raises(ValueError, match="2 claims would take about"):
        ensure_feasible(known(planted("a", seconds=60.0), planted("b")), trials=10**6, jobs=1)
