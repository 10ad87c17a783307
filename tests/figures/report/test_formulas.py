"""Formulas in claims' own notation become MathML, and nothing of the text is lost or read as HTML."""

import re
from html import unescape
from xml.etree import ElementTree

import pytest

from lorakappa.conditioning.verification.examination import known_claims
from lorakappa.figures.report.formulas import parts, typeset
from lorakappa.shared.packages import CLAIMS


def plain(html):
    """The text that HTML stands for, with the `alttext` of its formulas."""
    html = re.sub(r'<math alttext="([^"]*)">.*?</math>', r"\1", html)
    return unescape(re.sub(r"</?(?:code|span)[^>]*>", "", html))


def formulas(text):
    return [part for part, is_formula in parts(text) if is_formula]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("κ ≥ κ_bal = 2s₁/(s_r − s_{r+1}) at every minimizer", ["κ ≥ κ_bal = 2s₁/(s_r − s_{r+1})"]),
        ("for r < min(a, b), too", ["r < min(a, b)"]),
        ("only through AB: f(AR, R⁻¹B) = f(A, B) for all", ["AB", "f(AR, R⁻¹B) = f(A, B)"]),
        ("unless a = b = r = 1: Z has", ["a = b = r = 1", "Z"]),
        ("with m > s_{r+1} (s_{k+1} = 0).", ["m > s_{r+1}", "(s_{k+1} = 0)"]),
        ("A pair is a gauge of LoRA+, πLoRA's and sign-GD's", []),
        ("lower by 5 % at seeds 0, 1 and/or 2", []),
        ("`balance` leaves a pair", []),
        ("w² = ab + cd is so, f* is least, r < k in all", ["w² = ab + cd", "f*", "r < k"]),
        ("searched for a, b ≤ 4; a pair of A, B.", ["a", "b ≤ 4", "A", "B"]),
        ("the norm ‖P(x + tv) − (x + tv)‖ = O(t²) (bounded)", ["‖P(x + tv) − (x + tv)‖ = O(t²)"]),
        ("H[d] ≤ L‖d‖² for all d", ["H[d] ≤ L‖d‖²", "d"]),
        ("all κ-values and σ-algebras", []),
        ("all of rank Z", ["rank", "Z"]),
        ("all of rank Z.", ["rank", "Z"]),
        ("(so that κ = s)", ["κ = s"]),
        ("it is (κ = 1 for B) there", ["κ = 1", "B"]),
    ],
)
def test_formulas_are_told_from_words(text, found):
    assert formulas(text) == found


@pytest.mark.parametrize(
    ("formula", "mathml"),
    [
        ("s₁²", "<msubsup><mi>s</mi><mn>1</mn><mn>2</mn></msubsup>"),
        ("R⁻¹B", "<mrow><msup><mi>R</mi><mrow><mo>−</mo><mn>1</mn></mrow></msup><mi>B</mi></mrow>"),
        ("s_{r+1}", "<msub><mi>s</mi><mrow><mi>r</mi><mo>+</mo><mn>1</mn></mrow></msub>"),
        ("κ_bal", '<msub><mi mathvariant="normal">κ</mi><mi>bal</mi></msub>'),
        ("½Aᵀ", "<mrow><mfrac><mn>1</mn><mn>2</mn></mfrac><msup><mi>A</mi><mi>T</mi></msup></mrow>"),
        ("¾", "<mfrac><mn>3</mn><mn>4</mn></mfrac>"),
        ("¼", "<mfrac><mn>1</mn><mn>4</mn></mfrac>"),
        ("x^2_i", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
        ("x_i_j", "<mrow><msub><mi>x</mi><mi>i</mi></msub><mo>_</mo><mi>j</mi></mrow>"),
        ("f*", "<msup><mi>f</mi><mo>∗</mo></msup>"),
        ("f*≥0", "<mrow><msup><mi>f</mi><mo>∗</mo></msup><mo>≥</mo><mn>0</mn></mrow>"),
        ("f*x + y", "<mrow><mi>f</mi><mo>*</mo><mi>x</mi><mo>+</mo><mi>y</mi></mrow>"),
        ("√ρ", "<msqrt><mi>ρ</mi></msqrt>"),
        ("≥ 1e-06", "<mrow><mo>≥</mo><msup><mn>10</mn><mrow><mo>−</mo><mn>6</mn></mrow></msup></mrow>"),
        (
            "= 3e5",
            "<mrow><mo>=</mo><mrow><mn>3</mn><mo>·</mo><msup><mn>10</mn><mrow><mn>5</mn></mrow></msup></mrow></mrow>",
        ),
        (
            "2e+00",
            "<mrow><mn>2</mn><mo>·</mo><msup><mn>10</mn><mrow><mn>0</mn></mrow></msup></mrow>",
        ),
        ("s_{i}≥0", "<mrow><msub><mi>s</mi><mi>i</mi></msub><mo>≥</mo><mn>0</mn></mrow>"),
        ("γ̃", "<mover><mi>γ</mi><mo>~</mo></mover>"),
        ("γ̃≥0", "<mrow><mover><mi>γ</mi><mo>~</mo></mover><mo>≥</mo><mn>0</mn></mrow>"),
    ],
)
def test_what_a_formula_becomes(formula, mathml):
    from lorakappa.figures.report.formulas import _Parser

    assert _Parser(formula).row() == mathml


@pytest.mark.parametrize(
    "text", ["a_", "x^", "√", "_", "^{", "s_{", "((", "κ)", "‖", "½", "*", "x̃_", "{", "γ ≤ <b>&", "κ `"]
)
def test_broken_formulas_are_shown_all_the_same(text):
    html = typeset(text)
    assert plain(html) == text
    ElementTree.fromstring(f"<p>{html}</p>")


def test_every_text_of_every_claim_survives():
    for known in known_claims(CLAIMS).values():
        claim = known.claim
        for text in (claim.statement, claim.domain, claim.argument, *claim.sides):
            html = typeset(text)
            assert plain(html) == re.sub(r"`([^`]+)`", r"\1", text)
            ElementTree.fromstring(f"<p>{html}</p>")  # well formed


def test_text_is_no_html():
    html = typeset('<script>alert(1)</script> & κ ≥ "x"<img>')
    assert "<script" not in html
    assert "<img" not in html
    assert plain(html) == '<script>alert(1)</script> & κ ≥ "x"<img>'


def test_a_line_does_not_begin_with_punctuation():
    assert '<span class="whole"><math alttext="κ ≥ 1">' in typeset("Is κ ≥ 1?")
    assert typeset("Is κ ≥ 1?").endswith("</math>?</span>")
