"""The records of a study as evidence: a folder that can be kept beside the code, and checked by anybody.

Three files: the study's own, all records (one JSON object a line, compressed), and a manifest with the digests of both,
where and how they were made, and what was concluded. `Evidence.faults` concludes again from the records.
"""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lorakappa.conditioning.tolerances import CONCLUSION_TOL
from lorakappa.llm.comparison.record_schema import record_problem
from lorakappa.llm.comparison.runs import Record, restore_floats
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.studies.about import STUDY, About, Described
from lorakappa.llm.comparison.studies.files import parse_study, study_digest
from lorakappa.llm.comparison.studies.findings import findings
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.study import Study
from lorakappa.shared.evidence_files import difference, digest, pack, unpacked
from lorakappa.shared.records import provenance, write_bytes, write_json
from lorakappa.shared.schemas import parse_json, read_model

RECORDS, MANIFEST = "runs.jsonl.xz", "manifest.json"

DIGITS = 4
"""To which times and memory are rounded, which nothing repeats; losses are kept as they are."""

ROUNDED = ("train time", "method time", "train_time", "gap", "kappa bound", "kappa_bound")

ORIGIN = ("python", "versions", "platform", "package_info", "device", "processor", "threads")
"""Entries of a record's meta_info that say where it comes from; runs of one place share them."""


class Manifest(BaseModel):
    """manifest.json.

    Attributes:
        about: as in the study's folder.
        study: digest of what was asked for.
        parts: SHA-256 of the other files, in hexadecimal.
        runs: number of records.
        pending: runs that were still to be made.
        settings: of the runs, which records name by their place here.
        origins: machines and versions likewise.
        findings: what was concluded.
        claims: verdicts on the project's claims by their id.
        command: that kept the evidence.
        created: when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: About
    study: str
    parts: dict[str, str]
    runs: int
    pending: int
    settings: list[dict[str, Any]]
    origins: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    claims: dict[str, Literal["holds", "not seen", "equivalent", "inconclusive"]] = {}
    command: str
    created: str


@dataclass(frozen=True)
class Evidence:
    """Evidence as it was read.

    Attributes:
        folder: where it lies.
        manifest: of it.
        study: that it is of.
        progress: of the study, with the records.
        records: by run and settings.
    """

    folder: Path
    manifest: Manifest
    study: Study
    progress: Progress
    records: dict[tuple[Run, TrainingSettings], Record]

    def faults(self) -> list[str]:
        """Where manifest, records and conclusions disagree, a line each; empty if they agree."""
        manifest, found = self.manifest, []
        for name, stated in manifest.parts.items():
            if digest((self.folder / name).read_bytes()) != stated:
                found.append(f"{name} is not the file that the manifest is of")
        if set(manifest.parts) != {STUDY, RECORDS}:
            found.append(f"the manifest is not of {STUDY} and {RECORDS}")
        if manifest.study != study_digest(self.study):
            found.append("the study is not the one that was run")
        if manifest.runs != len(self.records):
            found.append(f"there are {len(self.records)} records, not {manifest.runs}")
        used = {id(record) for record in self.progress.records()}
        if strays := sum(id(record) not in used for record in self.records.values()):
            found.append(f"{strays} records belong to no run that the study asks for")
        if (pending := len(self.progress.pending())) != manifest.pending:
            found.append(f"{pending} runs are missing, not {manifest.pending}")
        again = [finding.as_json() for finding in findings(self.progress)]
        if len(again) != len(manifest.findings):
            found.append(f"the study has {len(again)} contrasts, not {len(manifest.findings)}")
        for new, old in zip(again, manifest.findings, strict=False):
            if (place := difference(new, old, CONCLUSION_TOL)) is not None:
                what = f"{new['method']} against {new['baseline']}, r = {new['rank']}, {new['steps']} steps"
                found.append(f"{new['table']}, {what}: {place}")
        return found


def keep(found: Described, progress: Progress, folder: Path, claims: dict[str, str] | None = None) -> Path:
    """Writes the evidence of a study; the manifest comes last.

    Args:
        found: the study, as its folder describes it.
        progress: with its records.
        folder: for the evidence; created if need be.
        claims: verdicts on the project's claims by their id.

    Returns:
        The folder.

    Raises:
        OSError: if it cannot be written.
    """
    used = {(run, shared): record for run, shared, record in _used(progress)}
    progress = Progress(progress.study, lambda run, shared: used.get((run, shared)))  # as its readers will see it
    settings: list[TrainingSettings] = []
    origins: list[dict[str, Any]] = []
    lines = []
    for (run, shared), record in used.items():
        origin = {name: record.get("meta_info", {}).get(name) for name in ORIGIN}
        entry = {
            "run": asdict(run),
            "settings": _place(settings, shared),
            "origin": _place(origins, origin),
            "run_info": {name: record["run_info"].get(name) for name in ("error_msg", "total_time")},
            "train_info": _compact(record["train_info"]),
        }
        lines.append(json.dumps(entry, sort_keys=True, allow_nan=False))
    content = "".join(line + "\n" for line in lines).encode()
    packed = pack(content)
    write_bytes(folder / STUDY, found.text.encode())
    write_bytes(folder / RECORDS, packed)
    manifest = Manifest(
        about=found.about,
        study=study_digest(progress.study),
        parts={STUDY: digest(found.text.encode()), RECORDS: digest(packed)},
        runs=len(lines),
        pending=len(progress.pending()),
        settings=[asdict(each) for each in settings],
        origins=origins,
        findings=[finding.as_json() for finding in findings(progress)],
        claims=claims or {},  # type: ignore[arg-type]  # checked by the model
        command=provenance()["command"],
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    write_json(folder / MANIFEST, manifest.model_dump())
    return folder


def read_manifest(folder: Path) -> Manifest:
    """Reads a manifest alone.

    Raises:
        OSError: if there is none.
        ValueError: if it is none.
    """
    return read_model(folder / MANIFEST, Manifest, what="the manifest of evidence")


def read_evidence(folder: Path) -> Evidence:
    """Reads evidence; whether it agrees with itself is what `Evidence.faults` says.

    Raises:
        OSError: if files are missing.
        ValueError: if they cannot be read as evidence.
    """
    manifest = read_manifest(folder)
    about = manifest.about
    text = (folder / STUDY).read_text(encoding="utf-8")
    study = parse_study(text, f"{about.name}.toml", model=about.model, data=about.data)
    settings = [_settings(entry, folder) for entry in manifest.settings]
    records: dict[tuple[Run, TrainingSettings], Record] = {}
    for number, line in enumerate(unpacked(folder / RECORDS).splitlines(), start=1):
        where = f"{folder / RECORDS}, line {number}"
        entry = restore_all(parse_json(line, where))
        if (problem := record_problem(entry)) is not None:
            raise ValueError(f"{where} is no record: {problem}")
        try:
            key = (Run(**entry["run"]), settings[entry["settings"]])
            entry["meta_info"] = manifest.origins[entry["origin"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{where} is no record: {error}") from None
        if key in records:
            raise ValueError(f"{where}: the run is there twice")
        records[key] = entry
    progress = Progress(study, lambda run, shared: records.get((run, shared)))
    return Evidence(folder, manifest, study, progress, records)


def is_evidence(folder: Path) -> bool:
    """Whether a folder holds evidence."""
    return (folder / MANIFEST).is_file()


def _used(progress: Progress) -> Iterable[tuple[Run, TrainingSettings, Record]]:
    """The records that a study rests on with their runs, in a fixed order."""
    found: dict[tuple[Run, TrainingSettings], Record] = {}
    for arm, selection in progress.selections.items():
        for record in (*selection.records, *progress.fresh(arm)):
            found[Run(**record["run"]), arm.settings] = record
    order = sorted(found, key=lambda key: (key[1].steps, key[1].optimizer, json.dumps(asdict(key[0]))))
    return [(run, settings, found[run, settings]) for run, settings in order]


def _place(known: list[Any], value: Any) -> int:
    """Where a value stands in a list, at its end if it is new."""
    if value not in known:
        known.append(value)
    return known.index(value)


def _compact(info: dict[str, Any]) -> dict[str, Any]:
    """A record's train_info with times rounded and what JSON does not have spelled out."""
    return {key: _compacted(key, value) for key, value in info.items()}


def _compacted(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_compact(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return float(f"{value:.{DIGITS}g}") if key in ROUNDED and isinstance(value, float) else value


def restore_all(value: Any) -> Any:
    """Numbers that JSON does not have, at any depth."""
    if isinstance(value, dict):
        return restore_floats({key: restore_all(entry) for key, entry in value.items()})
    return [restore_all(entry) for entry in value] if isinstance(value, list) else value


def _settings(entry: dict[str, Any], folder: Path) -> TrainingSettings:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    try:
        return TrainingSettings(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / MANIFEST}: no settings of a run: {error}") from None
