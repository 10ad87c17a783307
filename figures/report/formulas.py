"""Formulas as claims write them, κ ≥ 2s₁/(s_r − s_{r+1}), as MathML inside text.

Claims are plain text with the letters, indices and powers of Unicode, and `_x`, `_{…}`, `^{…}` where Unicode has none.
Words stay words; what stands between them and is made of symbols becomes a formula, whose `alttext` is the very text
that it was made of. No library reads this notation.
"""

import re
from collections.abc import Iterator
from html import escape

POWERS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀ", "0123456789+−T", strict=True))
INDICES = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+−", strict=True))
FRACTIONS = {"½": (1, 2), "¼": (1, 4), "¾": (3, 4)}
RELATIONS = "=<>≤≥≠≈≪≫∈∩⪯⪰→∝~"
OPERATORS = "+−·×/±⊗∇#∑∏*"
OPEN, CLOSE, NORM = "([{⟨", ")]}⟩", "‖|"
SYMBOLS = frozenset("_^√∞ℓ𝓗" + NORM + RELATIONS + OPERATORS) | {*POWERS, *INDICES, *FRACTIONS}
"""Characters, beside Greek letters, of which one makes a formula of a piece of text."""

WORDS = frozenset(
    (
        "bal",
        "cond",
        "diag",
        "exp",
        "ij",
        "inf",
        "ker",
        "lim",
        "limsup",
        "ln",
        "log",
        "max",
        "min",
        "polar",
        "range",
        "rank",
        "sign",
        "span",
        "sup",
        "tr",
        "vec",
    )
)
"""What is one name although it has several letters; other letters beside each other are factors of a product."""

_PIECE = re.compile(r"\S+|\s+")
_END = re.compile(r"[.,;:?!)]+(?=\s|$)")
_CODE = re.compile(r"(`[^`]+`)")
_WORD = re.compile(r"[^\W\d_]+(?:['’\-‑–][^\W\d_]+)*")
_LETTER = re.compile(r"[(\[]*[B-HJ-Zb-z][)\]]*")
_PRODUCT = re.compile(r"[(\[]*(?:d?[ABXYZ]{2,3}x?|d[AB]|[AB]x|tA)[)\]]*")
_APPLIED = re.compile(rf"[(\[−+‖]*(?:{'|'.join(sorted(WORDS))}|[A-Za-z]{{1,2}})[(\[].*")
_LISTED = re.compile(r"[(\[]+(?:[A-Za-z]{1,2}|d[AB]),")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_TILDE = "\u0303"
_NAMES = re.compile("LoRA|`|://")
_NAMED = re.compile("|".join(sorted(WORDS, key=len, reverse=True)))


def typeset(text: str) -> str:
    """HTML of a text, with its formulas as MathML.

    Args:
        text: plain text in the notation of claims.

    Returns:
        HTML in which everything that is special to HTML is escaped, with what stands between backticks as code. Its
        text, `alttext` in place of each formula, is the text given without backticks.
    """
    found: list[str] = []
    for code in _CODE.split(text):
        if len(code) > 1 and code[0] == code[-1] == "`":
            found.append(f"<code>{escape(code[1:-1])}</code>")
            continue
        for part, is_formula in parts(code):
            if is_formula:
                found.append(_formula(part))
            elif found and found[-1].endswith("</math>") and (end := _END.match(part)):  # a line never begins with it
                found[-1] = f'<span class="whole">{found[-1]}{end[0]}</span>'
                found.append(escape(part[end.end() :]))
            else:
                found.append(escape(part))
    return "".join(found)


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text cut into words and formulas: (part, whether it is a formula)."""
    pieces = _PIECE.findall(text)
    run = ""
    for i, piece in enumerate(pieces):
        if piece.isspace():
            run += piece
            continue
        core, inside = _bare(piece), _depth(run) > 0
        following = pieces[i + 2] if i + 2 < len(pieces) else ""
        if run.strip() and not inside and not _operator(run.rstrip()[-1]) and not _operator(piece[0]):
            yield from _closed(run)  # nothing joins the two
            run = ""
        if _is_formula(piece, core) or (inside and not _is_word(core)) or _goes_on(core, run, following):
            run += piece
            if core != piece and _depth(run) <= 0:  # the end of a sentence, or of a part of one
                yield from _closed(run)
                run = ""
            continue
        yield from _closed(run)
        run = ""
        yield piece, False
    yield from _closed(run)


def _bare(piece: str) -> str:
    """A piece without the punctuation at its end."""
    return piece.rstrip(".,;:?!")


def _operator(c: str) -> bool:
    return c in RELATIONS + OPERATORS


def _is_word(core: str) -> bool:
    bare = core.strip("()[]")
    return len(bare) > 2 and bare not in WORDS and _WORD.fullmatch(bare) is not None and not _PRODUCT.fullmatch(bare)


def _is_formula(piece: str, core: str) -> bool:
    """Whether a piece is a formula wherever it stands."""
    if not core or _NAMES.search(core):
        return False
    if any("Α" <= c <= "ω" for c in core) or _APPLIED.fullmatch(core) or _LISTED.match(piece):
        return not re.search(r"[A-Za-z]{4,}", _NAMED.sub("", core))
    if _LETTER.fullmatch(core) or _PRODUCT.fullmatch(core):
        return True
    if core in ("a", "A") and piece != core:  # no article stands before a comma
        return True
    # a word with a slash or a star beside it is a word
    words = re.search(r"[A-Za-z]{3,}[/*]|[/*][A-Za-z]{3,}|[a-z]{4,}", _NAMED.sub("", core))
    return any(c in SYMBOLS for c in core) and words is None


def _goes_on(core: str, run: str, following: str) -> bool:
    """Whether a piece that may be a word, "a" or a number, is part of a formula: an operator stands beside it."""
    bare = core.strip("()")
    if bare in WORDS:
        return bool(following) and _is_formula(following, _bare(following))
    if len(bare) == 2 and bare.isalpha() and run.rstrip()[-1:] in tuple("=<>≤≥+−·"):
        return True  # a product, w² = ab
    if bare in ("a", "A", "I") or _NUMBER.fullmatch(bare):
        before = run.rstrip()[-1:]
        return (before != "" and _operator(before)) or (following[:1] != "" and _operator(following[0]))
    return False


def _depth(text: str) -> int:
    """How many brackets are open at the end; negative if more are closed."""
    return sum((c in OPEN) - (c in CLOSE) for c in text)


def _closed(run: str) -> Iterator[tuple[str, bool]]:
    """A run of pieces as a formula between what belongs to the sentence: blanks, full stops, brackets around it."""
    core = run.strip()
    if not core:
        if run:
            yield run, False
        return
    start = run.index(core)
    end = start + len(_bare(core))
    depth = _depth(run[start:end])
    if depth > 0 and run[start] in OPEN:
        start += 1
    elif depth < 0 and run[end - 1] in CLOSE:
        end -= 1
    if start > 0:
        yield run[:start], False
    yield run[start:end], _depth(run[start:end]) == 0
    if end < len(run):
        yield run[end:], False


def _formula(text: str) -> str:
    return f'<math alttext="{escape(text)}">{_Parser(text).row()}</math>'


def _number(text: str) -> str:
    """A number; one like 3e-06 as 3·10⁻⁶."""
    digits, _, power = text.partition("e")
    if not power:
        return f"<mn>{digits}</mn>"
    sign = "<mo>−</mo>" if power.startswith("-") else ""
    scaled = f"<msup><mn>10</mn><mrow>{sign}<mn>{power.lstrip('+-').lstrip('0') or 0}</mn></mrow></msup>"
    return scaled if digits == "1" else f"<mrow><mn>{digits}</mn><mo>·</mo>{scaled}</mrow>"


class _Parser:
    """Reads one formula from left to right; everything has a form, so that nothing is refused."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def row(self, until: str = "") -> str:
        """MathML of everything up to a character, which is read, too."""
        found = []
        while self._at < len(self._text):
            if until and self._text[self._at] == until:
                self._at += 1
                break
            if self._text[self._at].isspace():
                self._at += 1
                continue
            found.append(self._scripted(self._atom()))
        return found[0] if len(found) == 1 else f"<mrow>{''.join(found)}</mrow>"

    def _atom(self) -> str:
        c = self._text[self._at]
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return _number(number[0])
        if word := self._name():
            self._at += len(word)
            return f"<mi>{escape(word)}</mi>"
        self._at += 1
        if c == "√":
            return f"<msqrt>{self._scripted(self._atom()) if self._at < len(self._text) else ''}</msqrt>"
        if c in FRACTIONS:
            return "<mfrac><mn>{}</mn><mn>{}</mn></mfrac>".format(*FRACTIONS[c])
        if c in OPEN + CLOSE + NORM:
            form = "prefix" if c in OPEN else "postfix" if c in CLOSE else "infix"
            return f'<mo form="{form}" stretchy="false" lspace="0" rspace="0">{c}</mo>'
        if c == "/":
            return '<mo lspace="0.1em" rspace="0.1em">/</mo>'
        if c == "κ":  # which in italics looks like an x
            return '<mi mathvariant="normal">κ</mi>'
        if c.isalpha() or c in "∞∇":
            return f"<mi>{c}</mi>"
        return f"<mo>{escape(c)}</mo>"

    def _name(self) -> str:
        """The longest name of several letters that stands here; empty if none does."""
        letters = re.match(r"[a-z]+", self._text[self._at :])
        return letters[0] if letters and letters[0] in WORDS else ""

    def _scripted(self, base: str) -> str:
        """The base with what stands at it: tilde, index, power."""
        index = power = ""
        while self._at < len(self._text):
            c = self._text[self._at]
            if c == _TILDE:
                self._at += 1
                base = f"<mover>{base}<mo>~</mo></mover>"
            elif c in POWERS and not power:
                power = self._small(POWERS)
            elif c in INDICES and not index:
                index = self._small(INDICES)
            elif c in "_^" and self._at + 1 < len(self._text) and not (index if c == "_" else power):
                self._at += 1
                found = self._argument()
                index, power = (found, power) if c == "_" else (index, found)
            elif c == "*" and not power and not self._text[self._at + 1 : self._at + 2].isalnum():
                self._at += 1
                power = "<mo>∗</mo>"
            else:
                break
        if index and power:
            return f"<msubsup>{base}{index}{power}</msubsup>"
        if index or power:
            tag = "msub" if index else "msup"
            return f"<{tag}>{base}{index or power}</{tag}>"
        return base

    def _argument(self) -> str:
        """What an index or power written out is: a group in braces, or one name, number or character."""
        if self._text[self._at] == "{":
            self._at += 1
            return self.row(until="}")
        return self._atom()

    def _small(self, letters: dict[str, str]) -> str:
        """A run of Unicode's small letters."""
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in letters:
            self._at += 1
        plain = "".join(letters[c] for c in self._text[start : self._at])
        return _Parser(plain).row()
