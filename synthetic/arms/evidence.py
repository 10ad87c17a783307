"""What arms came to, as evidence: a folder that is kept beside the code, and can be checked by anybody.

Two files: the arms, one JSON object a line, compressed, each with the step sizes that were tried and the values that
were measured; and a manifest with the digest of the arms, how, where and when they were made, and what was concluded
from them. `Evidence.faults` says where these disagree; what a claim concludes is compared when it is examined.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from lorakappa.shared.evidence_files import digest, pack, unpacked
from lorakappa.shared.machine import processor
from lorakappa.shared.records import provenance, write_bytes, write_json
from lorakappa.shared.schemas import parse_json, read_model
from lorakappa.synthetic.arms.arm import Arm, Choice, Measured, chosen_strengths

FOLDER: Final = Path(__file__).parent.parent / "evidence"
"""Where the evidence lies that comes with the project."""

ARMS, MANIFEST = "arms.jsonl.xz", "manifest.json"

SEED = 0
"""Root seed of all problems on record."""

SELECTION = 16
"""Problems that every step size and λ is tried on."""

FINAL = 64
"""Further problems that the best of them are compared on."""

BATCH = 32
"""Problems that are drawn, measured and made again together."""


class Line(BaseModel):
    """What is on record of one arm.

    Attributes:
        arm: `Arm.as_json`.
        grid: step sizes that were tried, if a choice was made for this arm.
        medians: as of `Choice`, null where it diverged; if a choice was made.
        finalists: likewise.
        values: (L, n) as of `Measured`.
        diverged: likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    arm: dict[str, Any]
    grid: tuple[float, ...] = ()
    medians: tuple[tuple[float | None, ...], ...] = ()
    finalists: tuple[tuple[int, int, float | None], ...] = ()
    values: tuple[tuple[float, ...], ...]
    diverged: int = 0

    @property
    def key(self) -> str:
        """As `key` of the arm."""
        return json.dumps(self.arm, sort_keys=True)

    def text(self, **beside: str) -> str:
        """The record as a line of JSON, with what else is to stand there."""
        entry = self.model_dump(exclude_defaults=True) | beside
        return json.dumps(entry, sort_keys=True, allow_nan=False) + "\n"

    def choice(self, arm: Arm) -> Choice:
        """What this record says is chosen for an arm that it is the chooser of.

        Raises:
            ValueError: if no choice is on record.
        """
        if not self.grid or not self.medians:
            raise ValueError(f"no choice is on record for {arm.chooser}")
        rows = tuple(tuple(_number(value) for value in row) for row in self.medians)
        finalists = tuple((v, g, _number(median)) for v, g, median in self.finalists)
        return Choice(self.grid, chosen_strengths(arm.chooser), rows, arm.beyond, finalists)


class Conclusion(BaseModel):
    """What a claim was found to say."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    verdict: str
    trials: int
    evidence: dict[str, Any]


class Manifest(BaseModel):
    """manifest.json.

    Attributes:
        arms: how many are on record.
        digest: SHA-256 of the file of the arms, in hexadecimal.
        seed: root seed of the problems.
        selection: problems that choices were made on, in the first and in the second round.
        batch: problems that were measured together.
        claims: what was concluded, by id.
        made: command, versions, code and machine (`shared.records.provenance`).
        processor: of the machine.
        created: when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    arms: int
    digest: str
    seed: int
    selection: tuple[int, int]
    batch: int
    claims: dict[str, Conclusion]
    made: dict[str, Any]
    processor: str
    created: str


@dataclass(frozen=True)
class Evidence:
    """Evidence as it was read; outcomes by arm.

    Attributes:
        folder: where it lies.
        manifest: of it.
        lines: by the arm's key (`key`).
    """

    folder: Path
    manifest: Manifest
    lines: Mapping[str, Line]

    def choice(self, arm: Arm) -> Choice:
        """What was chosen for an arm.

        Raises:
            ValueError: if that is not on record.
        """
        return self._line(arm.chooser).choice(arm)

    def measured(self, arm: Arm) -> Measured:
        """What was measured of it.

        Raises:
            ValueError: if that is not on record.
        """
        line = self._line(arm)
        return Measured(np.array(line.values, dtype=np.float64), line.diverged)

    def faults(self, arms: Iterable[Arm]) -> list[str]:
        """Where manifest, records and what claims ask for disagree, a line each; empty if they agree.

        Args:
            arms: that are asked for.
        """
        manifest, found = self.manifest, []
        if digest((self.folder / ARMS).read_bytes()) != manifest.digest:
            found.append(f"{ARMS} is not the file that the manifest is of")
        if (manifest.seed, manifest.selection, manifest.batch) != (SEED, (SELECTION, FINAL), BATCH):
            found.append("the problems are not those that the claims are about")
        if manifest.arms != len(self.lines):
            found.append(f"there are {len(self.lines)} arms, not {manifest.arms}")
        for arm in needed(arms):
            if key(arm) not in self.lines:
                found.append(f"{arm} is not on record")
            else:
                found += self._faults_of(arm)
        return found

    def strays(self, arms: Iterable[Arm]) -> int:
        """How many arms on record are none of those that are asked for."""
        return len(self.lines.keys() - {key(arm) for arm in needed(arms)})

    def _faults_of(self, arm: Arm) -> list[str]:
        """Where an arm's record is not what it should be."""
        line, found = self.lines[key(arm)], []
        wanted = BATCH * arm.batches
        lengths = [len(row) for row in line.values]
        if lengths != [wanted] * arm.rows:
            found.append(f"{arm}: {', '.join(map(str, lengths)) or 'no'} values, not {arm.rows} times {wanted}")
        if not all(math.isfinite(value) for row in line.values for value in row):
            found.append(f"{arm}: a value is not finite")
        if not 0 <= line.diverged <= wanted:
            found.append(f"{arm}: {line.diverged} of {wanted} runs diverged")
        try:
            choice = self.choice(arm)
            if len(choice.medians) != len(arm.chooser.variants()) or {*map(len, choice.medians)} != {len(choice.grid)}:
                found.append(f"{arm}: what was tried is not what the arm asks for")
            elif not choice.fits:
                found.append(f"{arm}: the second round is not between the best of the first")
            if list(choice.grid) != sorted(set(choice.grid)):
                found.append(f"{arm}: the step sizes are out of order")
            _ = choice.place  # there is one
        except ValueError as error:
            found.append(f"{arm}: {error}")
        return found

    def _line(self, arm: Arm) -> Line:
        line = self.lines.get(key(arm))
        if line is None:
            raise ValueError(f"{self.folder}: {arm} is not on record")
        return line


@cache
def key(arm: Arm) -> str:
    """What an arm is found by."""
    return json.dumps(arm.as_json(), sort_keys=True)


def needed(arms: Iterable[Arm]) -> list[Arm]:
    """The arms and those that they are tuned by, each once, by setting; in each those that are tuned come first."""
    found = {key(each): each for arm in arms for each in (arm, arm.chooser)}
    order = {name: (str(arm.settings), arm != arm.chooser, name) for name, arm in found.items()}
    return [found[name] for name in sorted(found, key=lambda name: order[name])]


def line_of(arm: Arm, choice: Choice | None, measured: Measured) -> Line:
    """The record of an arm; `choice` is that of an arm that is tuned by itself."""
    values, diverged = tuple(tuple(map(float, row)) for row in measured.values), measured.diverged
    if choice is None:
        return Line(arm=arm.as_json(), values=values, diverged=diverged)
    return Line(
        arm=arm.as_json(),
        grid=choice.grid,
        medians=tuple(tuple(map(_stated, row)) for row in choice.medians),
        finalists=tuple((v, g, _stated(median)) for v, g, median in choice.finalists),
        values=values,
        diverged=diverged,
    )


def keep(folder: Path, lines: Iterable[Line], conclude: Any) -> Path:
    """Writes evidence; the manifest comes last.

    Args:
        folder: for it; created if need be.
        lines: records of all arms.
        conclude: maps the evidence to what claims conclude from it, by id.

    Returns:
        The folder.

    Raises:
        OSError: if it cannot be written.
    """
    lines = list(lines)
    content = "".join(line.text() for line in lines).encode()
    packed = pack(content)
    draft = Manifest(
        arms=len(lines),
        digest=digest(packed),
        seed=SEED,
        selection=(SELECTION, FINAL),
        batch=BATCH,
        claims={},
        made=provenance(seed=SEED),
        processor=processor(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    claims = conclude(Evidence(folder, draft, {line.key: line for line in lines}))
    write_bytes(folder / ARMS, packed)
    write_json(folder / MANIFEST, draft.model_copy(update={"claims": claims}).model_dump())
    return folder


def read_lines(content: bytes, where: str, *, code: str | None = None) -> list[Line]:
    """Records, one a line.

    Args:
        content: the lines.
        where: they are, for messages.
        code: the digest beside those that count, if each line has one.

    Raises:
        ValueError: if a line is none, or an arm is there twice.
    """
    found: dict[str, Line] = {}
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            entry = parse_json(text, where)
            if code is not None and isinstance(entry, dict) and entry.pop("code", None) != code:
                continue
            line = Line.model_validate(entry)
        except ValueError as error:
            raise ValueError(f"{where}, line {number} is no record: {str(error).splitlines()[0]}") from None
        if found.setdefault(line.key, line) is not line:
            raise ValueError(f"{where}, line {number}: the arm is there twice")
    return list(found.values())


def read_evidence(folder: Path) -> Evidence:
    """Reads evidence; whether it agrees with itself is what `Evidence.faults` says.

    Raises:
        OSError: if files are missing.
        ValueError: if they cannot be read as evidence.
    """
    manifest = read_model(folder / MANIFEST, Manifest, what="the manifest of evidence")
    lines = read_lines(unpacked(folder / ARMS), str(folder / ARMS))
    return Evidence(folder, manifest, {line.key: line for line in lines})


@cache
def kept() -> Evidence | None:
    """The evidence that comes with the project, read once; None if there is none."""
    return read_evidence(FOLDER) if (FOLDER / MANIFEST).is_file() else None


def _number(value: float | None) -> float:
    """A median on record."""
    return math.inf if value is None else value


def _stated(median: float) -> float | None:
    """What is put on record of it: the inverse of `_number`."""
    return median if math.isfinite(median) else None
