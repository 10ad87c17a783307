"""Claims found by package, chosen, and examined several at a time in processes of their own.

The processes take the claims of all packages side by side, in groups that share an experiment, so that each experiment
is made once; the longest groups come first, and no core waits for another package to end.
"""

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lorakappa.conditioning.verification.algebraic import DEFAULT_TRIALS
from lorakappa.conditioning.verification.claim import Claim, Verdict
from lorakappa.shared.command_line import errors
from lorakappa.shared.forecast import announce, check_duration
from lorakappa.shared.processes import side_by_side

LONGEST_WAIT = 30 * 24 * 3600.0
"""Seconds up to which an examination is begun."""


@dataclass(frozen=True)
class Known:
    """A claim, and where it is made.

    Attributes:
        package: that makes it.
        module: whose `CLAIMS` holds it, for workers to find it by its id.
        claim: itself.
    """

    package: str
    module: str
    claim: Claim


def known_claims(modules: Mapping[str, str]) -> dict[str, Known]:
    """The claims of some packages by id, in order.

    Args:
        modules: module of the claims by package.

    Raises:
        ValueError: if two packages make claims of one id.
    """
    known: dict[str, Known] = {}
    for package, module in modules.items():
        for id, claim in import_module(module).CLAIMS.items():
            if id in known:
                raise ValueError(f"{known[id].package} and {package} both make a claim called {id}")
            known[id] = Known(package, module, claim)
    return known


def select(
    known: Mapping[str, Known], ids: Sequence[str] = (), *, package: str | None = None, source: str | None = None
) -> list[Known]:
    """Some claims: those named, in the order given, or all; of them those of a package and of a source.

    Args:
        known: claims by id.
        ids: names, each taken once; empty for all.
        package: name of a package, or None.
        source: part of a claim's source in any case, such as "poster" or "theorem 3", or None.

    Raises:
        ValueError: if an id or the package is unknown, or no claim is left.
    """
    if unknown := [id for id in ids if id not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=3)
        hint = f"; is it {' or '.join(close)}?" if close else ""
        raise ValueError(f"unknown claim {', '.join(unknown)}{hint}; `list` shows the {len(known)} there are")
    packages = dict.fromkeys(entry.package for entry in known.values())
    if package is not None and package not in packages:
        raise ValueError(f"{package or 'a package without a name'} makes no claims; choose from {', '.join(packages)}")
    found = [known[id] for id in dict.fromkeys(ids)] if ids else list(known.values())
    found = [entry for entry in found if package in (None, entry.package)]
    if not found:
        raise ValueError(f"none of the named claims is one of {package}: leave out --package")
    if source is not None:
        found = [entry for entry in found if source.lower() in entry.claim.origin.lower()]
    if not found:
        raise ValueError(f"no claim is left: none of them has a source that contains {source!r}")
    return found


def ensure_feasible(known: Iterable[Known], *, trials: int | None, jobs: int) -> None:
    """Says how long an examination with so many instances may take, and refuses what nobody can wait for.

    Args:
        known: claims.
        trials: as for `Claim.examine`; nothing is said of the claims' own numbers.
        jobs: number of processes.

    Raises:
        ValueError: if it would take more than `LONGEST_WAIT`, with the time that it would take.
    """
    if trials is None:
        return
    chosen = list(known)
    groups = len(_examined_together(chosen))
    shares = [entry.claim.seconds / usual_trials(entry.claim) for entry in chosen]
    seconds = trials * sum(shares) / max(1, min(jobs, groups, os.cpu_count() or 1))
    what = f"{trials} instances of {len(chosen)} claim{'s' * (len(chosen) > 1)}"
    check_duration(seconds, what, "ask for less", longest=LONGEST_WAIT)
    announce(seconds, what)


def usual_trials(claim: Claim) -> int:
    """The instances that a claim is examined at by default, which takes about `Claim.seconds`."""
    return int(getattr(claim, "default_trials", DEFAULT_TRIALS))


def examine(known: Iterable[Known], *, trials: int | None, seed: int, jobs: int, quiet: bool = False) -> list[Verdict]:
    """Examines claims, `jobs` at a time, under a progress bar on stderr.

    Args:
        known: claims.
        trials: as for `Claim.examine`.
        seed: as for `Claim.examine`.
        jobs: number of processes; 1 stays in this one.
        quiet: no progress bar.

    Returns:
        Verdicts in the order of the claims; they do not depend on `jobs`.
    """
    chosen = list(known)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    verdicts: dict[str, Verdict] = {}
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=len(chosen))

        def report(found: dict[str, Verdict]) -> None:
            verdicts.update(found)
            progress.update(task, completed=len(verdicts), description=next(reversed(found)))

        groups = _examined_together(chosen)
        # a package whose claims share one experiment is examined here, after the others: it has workers of its own
        several = Counter(group[0].module for group in groups)
        beside = [group for group in groups if several[group[0].module] > 1]
        if jobs == 1 or len(beside) == 1:
            beside = []
        by_id = {entry.claim.id: entry.claim for entry in chosen}
        if beside:
            work = [(_examine_by_id, group[0].module, [e.claim.id for e in group], trials, seed) for group in beside]
            for done in side_by_side(work, jobs):
                report({id: Verdict(claim=by_id[id], **found) for id, found in done.items()})
        for entry in chosen:
            if entry.claim.id not in verdicts:
                progress.update(task, description=entry.claim.id)
                report({entry.claim.id: entry.claim.examine(trials=trials, seed=seed)})
    return [verdicts[entry.claim.id] for entry in chosen]


def _examined_together(known: Sequence[Known]) -> list[list[Known]]:
    """Groups of claims for one process each: those that share an experiment stay together, the longest first."""
    groups: dict[tuple[str, str], list[Known]] = {}
    for entry in known:
        groups.setdefault((entry.module, entry.claim.experiment or entry.claim.id), []).append(entry)
    return sorted(groups.values(), key=lambda group: sum(entry.claim.seconds for entry in group), reverse=True)


def _examine_by_id(module: str, ids: list[str], trials: int | None, seed: int) -> dict[str, dict[str, Any]]:
    """A worker's job: verdicts by id, without the claims themselves, which need not be picklable."""
    known = import_module(module).CLAIMS
    verdicts = {id: known[id].examine(trials=trials, seed=seed) for id in ids}
    return {
        id: {field.name: getattr(verdict, field.name) for field in fields(verdict) if field.name != "claim"}
        for id, verdict in verdicts.items()
    }
