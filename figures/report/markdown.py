"""The ledger as Markdown, for readers and tools that take no HTML."""

from lorakappa.figures.report.ledger import ClaimEntry, EffectEntry, Ledger


def as_markdown(ledger: Ledger) -> str:
    """Totals, the verdict on every claim, what became of every statement, and the records."""
    from lorakappa.figures.report.page import headline

    lines = ["# What is true of LoRA's conditioning", "", headline(ledger), ""]
    for package in dict.fromkeys(claim.package for claim in ledger.claims):
        lines += [f"## {package}", "", "| claim | statement | verdict | source |", "|---|---|---|---|"]
        lines += [_row(claim) for claim in ledger.claims if claim.package == package]
        lines.append("")
    for document in ledger.documents:
        lines += [f"## {document.citation}", "", f"At hand: {document.at_hand}.", ""]
        lines += ["| place | statement | what became of it | claims |", "|---|---|---|---|"]
        lines += [
            _cells(s.place, s.statement, s.outcome + (f": {s.reason}" if s.reason else ""), ", ".join(s.claims))
            for s in ledger.statements
            if s.document == document.citation
        ]
        lines.append("")
    if (study := ledger.study) is not None:
        lines += [f"## Study {study.name}", "", f"Gains in test loss over the baseline; δ = {study.delta:g}.", ""]
        lines += [
            "| table | method | over | r | steps | start | gain | interval | seeds | verdict |",
            "|---" * 10 + "|",
        ]
        lines += [_effect(effect) for effect in study.effects]
        lines.append("")
    lines += ["## Records", "", "| record | state | made by |", "|---|---|---|"]
    for record in ledger.records:
        state = f"{record.state}: {record.reason}" if record.reason else record.state
        lines.append(_cells(record.name, state, f"`{(record.provenance or {}).get('command', record.command)}`"))
    return "\n".join(lines) + "\n"


def _row(claim: ClaimEntry) -> str:
    verdict = claim.verdict + (f" ({claim.level})" if claim.level else "")
    if claim.corrected_by:
        verdict += f" → {claim.corrected_by}"
    if claim.measured:
        verdict += f": {claim.note}; setting: {claim.setting}"
    return _cells(f"`{claim.id}`", claim.statement, verdict, claim.source)


def _effect(effect: EffectEntry) -> str:
    known = effect.low is not None and effect.high is not None
    return _cells(
        effect.table,
        f"`{effect.method}`",
        f"`{effect.baseline}`",
        str(effect.rank),
        str(effect.steps),
        "" if effect.start is None else f"{effect.start:g}",
        "" if effect.estimate is None else f"{effect.estimate:+.4f}",
        f"[{effect.low:+.4f}, {effect.high:+.4f}]" if known else "",
        str(effect.seeds),
        effect.verdict,
    )


def _cells(*texts: str) -> str:
    return "| " + " | ".join(" ".join(text.split()).replace("|", r"\|") for text in texts) + " |"
