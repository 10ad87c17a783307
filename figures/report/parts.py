"""What a report is made of: results on disk, which command makes each, and whether it is there and up to date."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lorakappa.figures.catalogue import FIGURES
from lorakappa.shared.code_state import digests, package_folder
from lorakappa.shared.failures import one_line
from lorakappa.shared.schemas import read_json

State = Literal["present", "shipped", "stale", "missing", "unreadable"]
"""Of a part: as it should be, comes with the project, made by other code than there is now, not there, unreadable."""

FINE = ("present", "shipped")
"""States in which nothing is to be done."""

SHIPPED = Path(__file__).parent
"""Folder of the results that come with the project."""


@dataclass(frozen=True)
class Part:
    """A result that the report shows.

    Attributes:
        name: of it.
        files: names of its files in the folder of results; the one with its description comes last.
        command: arguments of `lorakappa` that make it, with {folder}.
        needs: names of the parts that must be there first.
        made_here: whether `report --make` makes it; else it is shown as missing, with its command.
        ships: whether one comes with the project, which is shown where the folder has none or an older one.
        also_fine: exit codes beside 0 with which the command has done its work.
        seconds: of processor time that it takes, about, for the forecast.
        memory: bytes that it takes at most, about.
        shares: whether the command itself divides its work among all cores.
    """

    name: str
    files: tuple[str, ...]
    command: str
    needs: tuple[str, ...] = ()
    made_here: bool = True
    ships: bool = False
    also_fine: tuple[int, ...] = ()
    seconds: float = 5.0
    memory: int = 200 << 20
    shares: bool = False

    def told(self, folder: Path) -> str:
        """The whole command line that makes it."""
        return f"lorakappa {self.command.format(folder=folder)}" if self.command else "make bench"


@dataclass(frozen=True)
class Found:
    """A part as it was found.

    Attributes:
        part: what it is.
        state: whether it can be shown, and believed.
        reason: of the state, if it is not "present".
        provenance: what it says of its making.
        digests: SHA-256 by file.
        content: of its description.
    """

    part: Part
    state: State
    reason: str = ""
    provenance: Mapping[str, Any] | None = None
    digests: Mapping[str, str] | None = None
    content: Any = None


ADAPTER = "adapter/adapter_config.json"

STUDY = "tiny"
"""The study whose evidence comes with the project, if any does."""

METHODS = "lora,balora,reflora,ilora,pilora,scaled-gd"
"""Of its methods, those whose curves and grids are shown: more of them hide each other."""

SECONDS = {
    "verdicts": 340,
    "adapter": 19,
    "kappa-histogram": 4,
    "convergence": 3,
    "rates": 4,
    "phase": 6,
    "settle": 4,
    "duel": 17,
    "ratios": 8,
    "gauges": 20,
    "curvature": 40,
    "audit": 5,
    "study": 10,
    "llm-compare": 15,
}
"""Of processor time that parts take, about, for the forecast: as seen on one core, that of verdicts as the claims say
themselves; `USUAL_SECONDS` where it is less."""

USUAL_SECONDS = 2.0
COMPARISON_SECONDS = 600.0
"""Of the comparison that is made where no evidence of a study is there."""

TORCH_BYTES = 700 << 20
"""What a command of `llm` takes at most, with the tiny model."""


def evidence_ships(study: str = STUDY) -> bool:
    """Whether the evidence of a study comes with the project, without importing what reads it."""
    folder = package_folder("llm")
    return folder is not None and (folder / "evidence" / study / "manifest.json").is_file()


def all_parts(*, evidence: bool) -> dict[str, Part]:
    """The parts by name, in the order in which they are shown.

    Args:
        evidence: whether that of the study comes with the project. Then the figures of fine-tunes are drawn from it;
            otherwise a comparison is made for them, and the study is shown if somebody has put its result there.
    """
    verify = "verify --json {folder}/verdicts.json"
    finetune = "llm finetune lora --model tiny --rank 4 --learning-rate 0.017 --out {folder}/adapter"
    parts = [
        Part("verdicts", ("verdicts.json",), verify, also_fine=(1,), shares=True, memory=TORCH_BYTES),
        Part("sources", ("sources.json",), "sources --json {folder}/sources.json"),
        Part("adapter", (ADAPTER,), finetune, memory=TORCH_BYTES),
        *(_figures_part(data, evidence) for data in dict.fromkeys(kind.data for kind in FIGURES.values())),
    ]
    costs = SECONDS if evidence else SECONDS | {"llm-compare": COMPARISON_SECONDS}
    return {part.name: replace(part, seconds=costs.get(part.name, USUAL_SECONDS)) for part in parts}


def _figures_part(data: str, evidence: bool) -> Part:
    """The part that the figures of a result are drawn from."""
    kind = next(kind for kind in FIGURES.values() if kind.data == data)
    files = (f"{data}.npz", f"{data}.json") if kind.arrays else (f"{data}.json",)
    command = f"{kind.package} {kind.command.replace('{data}', data)}" if kind.package else ""
    if data == "llm-compare" and evidence:
        command = f"llm report {STUDY} --quiet --comparison {{folder}} --methods {METHODS}"
    return Part(
        data,
        files,
        command.replace("ADAPTER", "{folder}/adapter").replace("STUDY", STUDY),
        needs=("adapter",) if "ADAPTER" in kind.command else (),
        made_here=bool(command) and (evidence or data != "study"),
        ships=data == "benchmarks",
        memory=TORCH_BYTES if kind.package == "llm" else Part.memory,
        shares=data == "llm-compare" and not evidence,
    )


PARTS = all_parts(evidence=evidence_ships())
"""All parts by name."""


def find(part: Part, folder: Path) -> Found:
    """Looks whether a part is in a folder of results, can be read, and was made by the code that there is now.

    Where one comes with the project, it is taken if the folder has none, or one of older code while it is of this code.
    """
    own = _find(part, folder)
    if not part.ships or own.state not in ("missing", "stale"):
        return own
    shipped = _find(part, SHIPPED)
    if shipped.state not in ("present", "stale") or (own.state == "stale" and shipped.state == "stale"):
        return own
    age = f"; {shipped.reason}" * bool(shipped.reason)
    reason = f"comes with the project, measured elsewhere{age}; made here by: {part.told(folder)}"
    return replace(shipped, state="shipped", reason=reason)


def _find(part: Part, folder: Path) -> Found:
    files = [folder / name for name in part.files]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        return Found(part, "missing", f"no {' and no '.join(missing)} in {folder.name}; made by: {part.told(folder)}")
    try:
        content = read_json(files[-1])
        sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    except (OSError, ValueError) as error:
        return Found(part, "unreadable", one_line(str(error)))
    provenance = _provenance(content)
    return Found(part, *_age(provenance), provenance, sums, content)


def place(state: State, folder: Path) -> Path:
    """The folder with the files of a part in a state, where that of the results is given."""
    return SHIPPED if state == "shipped" else folder


ENTRIES = ("command", "seed", "python", "versions", "commit", "code", "platform", "cores", "seconds")
"""Of a provenance, by which it is told from what stands beside it."""


def _provenance(content: Any) -> Mapping[str, Any] | None:
    """What a result says of its making: in an entry of its own, in every row of a list, or beside its other entries."""
    if isinstance(content, list):
        content = content[0] if content else None
    if not isinstance(content, dict):
        return None
    beside = {name: content[name] for name in ENTRIES if name in content} if "versions" in content else None
    found = content.get("provenance", beside)
    return found if isinstance(found, dict) else None


def _age(provenance: Mapping[str, Any] | None) -> tuple[State, str]:
    """Whether the code that made a result is the code that there is now."""
    if provenance is None:
        return "present", ""
    code = provenance.get("code")
    if not isinstance(code, dict):
        return "stale", "it does not say which code made it"
    now = digests(code)
    changed = sorted(name for name, digest in code.items() if now.get(name) != digest)
    return ("stale", f"made before the last change of {', '.join(changed)}") if changed else ("present", "")
