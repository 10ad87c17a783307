"""What decides the claims on iLoRA about arms: maps of cells, rival ratios, windows, and what became of a ratio."""

import numpy as np
import pytest

from lorakappa.synthetic.claims import CLAIMS
from lorakappa.synthetic.claims.gains import MAIN
from lorakappa.synthetic.claims.ilora import PAPER, RATIOS, STRENGTHS
from tests.synthetic.made_up import WORDS, MadeUp, ahead, around


def cells(won, lost, id="balora-versus-ilora"):
    claim = CLAIMS[id]
    methods = [arm.method for arm in claim.arms[:2]]
    order = list(dict.fromkeys(arm.settings for arm in claim.arms))

    def gains(arm):
        at = order.index(arm.settings)
        return (0.1, 0.2) if at < won else (-0.2, -0.1) if at < won + lost else (0.0, 0.3) if at % 2 else (-0.3, 0.0)

    return claim.judge(ahead(methods[1], gains))


@pytest.mark.parametrize(
    ("won", "lost", "verdict"),
    [
        (13, 0, "inconclusive"),
        (13, 14, "not seen"),
        (14, 0, "holds"),
        (14, 13, "holds"),
        (0, 13, "inconclusive"),
        (0, 14, "not seen"),
        (0, 0, "inconclusive"),
    ],
)
def test_more_than_half_of_all_cells_decide(won, lost, verdict):
    found = cells(won, lost)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(won / 27 - 1 / 2)
    assert found.note.startswith(f"of 27 cells {won} won, {lost} lost, 0 no different; ")
    assert len(found.evidence["gains"]) == 27
    assert {gain["level"] for gain in found.evidence["gains"].values()} == {1 - 0.05 / 27}


@pytest.mark.parametrize(("alike", "verdict"), [(13, "inconclusive"), (14, "equivalent")])
def test_a_cell_with_a_gain_below_the_margin_is_neither_won_nor_lost(alike, verdict):
    claim = CLAIMS["balora-versus-ilora"]
    order = list(dict.fromkeys(arm.settings for arm in claim.arms))
    outcomes = ahead("balora", lambda arm: (0.01, 0.04) if order.index(arm.settings) < alike else (0.1, 0.2))
    found = claim.judge(outcomes)
    assert found.verdict == ("holds" if verdict == "inconclusive" else verdict)
    assert found.note.startswith(f"of 27 cells {27 - alike} won, 0 lost, {alike} no different; ")


def test_the_tally_counts_the_cells_in_which_runs_diverged():
    outcomes = ahead("balora", lambda _: (0.1, 0.2))
    assert "diverged" not in CLAIMS["balora-versus-ilora"].judge(outcomes).note
    outcomes.diverged = lambda arm: 4 + (arm.method == "balora") if arm.settings.shape == (40, 10) else 0
    assert "; runs diverged in 9 cells, at most 5 of 64" in CLAIMS["balora-versus-ilora"].judge(outcomes).note


def test_the_tally_says_where_who_wins():
    found = cells(10, 9)
    # cells in order: 9 of q = 0.5 won, 1 of q = 0.7 won and 8 lost, 1 of q = 0.9 lost
    assert "q = 0.5 9:0, q = 0.7 1:8, q = 0.9 0:1" in found.note
    assert "40×10 4:3, 20×20 3:3, 10×40 3:3" in found.note
    assert "lora start 4:3, balanced start 3:3, gaussian start 3:3" in found.note
    found = cells(3, 1, "ilora-prefers-balance")
    assert "start" not in found.note  # one start is no knob
    assert len(found.evidence["gains"]) == 9
    arms = CLAIMS["balora-versus-ilora-adam"].arms
    assert {(arm.optimizer, arm.strengths) for arm in arms} == {("adam", STRENGTHS)}
    assert {arm.steps for arm in arms} == {50}


def test_lambdas_at_the_edge_of_their_grid_are_named():
    def note(id, tried):
        outcomes = MadeUp(lambda arm: np.ones((arm.rows, 64)))
        outcomes.strengths = lambda arm: tried if "ilora" in arm.method else ()
        return CLAIMS[id].judge(outcomes).note

    grid = (1e-6, 1.0, 10.0)
    assert "; λ at the edge of its grid in 27 of 27 cells" in note("balora-versus-ilora", grid)
    everywhere = "; λ at the edge of its grid: GD one-layer 1e-06, GD two-layer 1e-06, Adam one-layer 1e-06, "
    for id in ("pilora-beats-lora", "ilora-robust-lr", "ilora-keeps-ratio", "ilora-trained-ratio-close"):
        assert everywhere in note(id, grid), id
        assert "edge" not in note(id, (1.0,))  # one λ has no edge
    for id in RATIO_CLAIMS:
        assert "; λ at the edge of its grid: 40×10 " in note(id, grid)


RATIO_CLAIMS = ("ilora-ratio-optimal", "ilora-factor-ablation", "ilora-exponent-ablation")


@pytest.mark.parametrize("id", RATIO_CLAIMS)
@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.3, 0.2, 0.1), "holds"),
        ((0.3, 0.2, -0.1), "not seen"),
        ((-0.1, 0.2, 0.3), "not seen"),
        ((0.3, 0.2, 0.0), "inconclusive"),
        ((0.01, 0.0, -0.01), "equivalent"),
    ],
)
def test_the_rival_is_the_best_where_choices_are_made_and_is_judged_elsewhere(id, gains, verdict):
    """r/m itself looks best of all where choices are made, and is no rival of itself."""
    claim = CLAIMS[id]
    shapes = list(dict.fromkeys(arm.settings.shape for arm in claim.arms))
    paper = f"ilora:{PAPER}"
    rival = next(arm.method for arm in reversed(claim.arms) if arm.method != paper)

    def values(arm):
        gain = gains[shapes.index(arm.settings.shape)]
        ahead = around(gain - 0.01, gain + 0.01)
        return ahead if arm.method == rival else np.full(64, 0.0 if arm.method == paper else -9.0)

    def lowest(arm):
        return -99.0 if arm.method == paper else -9.0 if arm.method == rival else -1.0

    found = claim.judge(MadeUp(values, lowest))
    assert found.verdict == verdict
    assert [gain["median"] for gain in found.evidence["gains"].values()] == pytest.approx(list(gains))
    assert list(found.evidence["gains"]) == [f"{'×'.join(map(str, s))} {rival.partition(':')[2]}" for s in shapes]
    assert found.worst_margin == pytest.approx(min(gains) - 0.01)
    if id == "ilora-ratio-optimal":
        assert f"40×10 {rival.partition(':')[2]} {-gains[0]:+.2f} [{-gains[0] - 0.01:+.2f}, " in found.note


def test_the_ratios_are_those_of_the_papers_ablation_and_beyond():
    tried = {arm.method.partition(":")[2] for arm in CLAIMS["ilora-factor-ablation"].arms}
    assert tried == {f"factor={c}" for c in (0.5, 0.9, 1.0, 1.1, 1.5, 2.0)}
    tried_powers = {arm.method.partition(":")[2] for arm in CLAIMS["ilora-exponent-ablation"].arms}
    assert tried_powers == {PAPER, *(f"power={p}" for p in (0.5, 0.75, 1.5, 2.0))}
    assert PAPER in tried & set(RATIOS["20×20"])
    assert {"power=0.0", "factor=16.0"} <= set(RATIOS["20×20"])
    assert all(arm.strengths == STRENGTHS for arm in CLAIMS["ilora-exponent-ablation"].arms)


@pytest.mark.parametrize(("interval", "verdict"), WORDS)
def test_the_rule_of_robustness(interval, verdict):
    """The window of iLoRA is wider by that much under Adam in the one-layer loss, and clearly wider elsewhere."""

    def values(arm):
        if arm.method == "lora":
            return np.ones(64)
        return 1 + around(*(interval if (arm.optimizer, arm.settings.loss) == ("adam", "one-layer") else (0.5, 0.6)))

    found = CLAIMS["ilora-robust-lr"].judge(MadeUp(values))
    assert found.verdict == ("inconclusive" if verdict == "equivalent" else verdict)
    assert found.worst_margin == pytest.approx(interval[0])
    assert found.note.startswith("decades by which it is wider: GD one-layer +0.55 ")
    assert {arm.quantity for arm in CLAIMS["ilora-robust-lr"].arms} == {"window"}


def layered(interval, usual):
    """Values of two layers in the two-layer loss, of which only the second one is in the interval."""

    def values(arm):
        rows = [around(*usual), around(*interval)]
        return rows if arm.settings.loss == "two-layer" else rows[:1]

    return MadeUp(values)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.01, 1.99), "holds"),
        ((1.0, 1.5), "inconclusive"),
        ((0.9, 1.5), "inconclusive"),
        ((1.5, 2.1), "inconclusive"),
        ((0.5, 0.99), "not seen"),
        ((2.01, 3.0), "not seen"),
    ],
)
def test_the_rule_of_the_trained_ratio(interval, verdict):
    found = CLAIMS["ilora-trained-ratio-close"].judge(layered(interval, (1.4, 1.6)))
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(min(interval[0] - 1, 2 - interval[1], 0.4))
    assert "GD two-layer 2 " in found.note
    assert {gain["level"] for gain in found.evidence["ratios"].values()} == {1 - 0.05 / 6}


@pytest.mark.parametrize(
    ("defects", "verdict"), [((0.05, 0.09), "holds"), ((0.09, 0.11), "inconclusive"), ((0.11, 0.5), "not seen")]
)
def test_the_rule_of_the_ratio_that_is_kept(defects, verdict):
    found = CLAIMS["ilora-keeps-ratio"].judge(layered(defects, (0.01, 0.03)))
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(0.1 - max(defects))
    assert "GD one-layer +0.02 [+0.01, +0.03] (LoRA 0.02)" in found.note
    assert {gain["level"] for group in found.evidence.values() for gain in group.values()} == {1 - 0.05 / 6}


def test_the_ratio_of_lora_plus_is_that_of_the_problem():
    settings = MAIN["one-layer"]
    (method,) = {arm.method for arm in CLAIMS["lora-plus-proportional"].arms} - {"lora-plus"}
    assert method == f"lora-plus:lr-ratio={settings.shape[0] // settings.rank}"
