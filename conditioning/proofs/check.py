"""Have Coq's kernel check every theorem that theorems.json says proves a claim, and compare with the record.

Run by itself, `python conditioning/proofs/check.py`; needs nothing of the project and nothing but Python and Coq. It

1. refuses what leaves a proof open (`Admitted`, `admit`) or adds an assumption (`Axiom`, `Parameter`, …), by name;
2. compiles the files in the order in which they need each other, in a temporary folder;
3. asks Coq for the statement of every theorem, and for all that its proof assumes: that must be nothing;
4. compares statements and the files' hashes with checked.json, the record; `--record` renews that instead.

Exit codes: 0 all is proved as recorded, 1 not so, 2 bad arguments, 3 Coq or a library of it is missing.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
THEOREMS, RECORD = "theorems.json", "checked.json"
LIBRARY = "LoRA"
CLOSED = "Closed under the global context"
PACKAGES = (
    "coq libcoq-mathcomp-ssreflect libcoq-mathcomp-algebra libcoq-mathcomp-field "
    "libcoq-mathcomp-algebra-tactics libcoq-mathcomp-real-closed"
)
NO_COQ = 3
FORBIDDEN = (
    r"Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?|Primitive|Module|Declare|Unset\s+\w+\s+Checking|"
    r"bypass_check|Add\s+LoadPath|Load"
)
"""Words that leave something open or assume it; modules, which could hide it, are not needed here."""
LOCAL = r"Variables?|Hypothes[ie]s|Context"
"""Words that assume something unless they stand in a section."""


class Fault(Exception):
    """Something is not proved as it should be; the message names the file or the theorem."""


def without_comments(text: str) -> str:
    """Coq's text without its comments, which nest, and without strings."""
    kept, depth = [], 0
    for piece in re.split(r'(\(\*|\*\)|"[^"]*")', text):
        if piece == "(*":
            depth += 1
        elif piece == "*)" and depth:
            depth -= 1
        elif not depth and not piece.startswith('"'):
            kept.append(piece)
    return "".join(kept)


def refuse_what_is_open(name: str, text: str) -> None:
    """Raises Fault where a file leaves a proof open or assumes something outside a section.

    Args:
        name: of the file, for the message.
        text: what is in it.
    """
    code = without_comments(text)
    found = re.search(rf"\b({FORBIDDEN})\b", code)
    if found:
        raise Fault(f"{name}: {found[0]!r} is not allowed here")
    depth = 0
    for word in re.findall(rf"\b(Section|End|{LOCAL})\b", code):
        depth += (word == "Section") - (word == "End")
        if depth <= 0 and word not in ("Section", "End"):
            raise Fault(f"{name}: {word!r} outside a section assumes something")


def sha256(path: Path) -> str:
    """The hash by which the record knows a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_order(folder: Path) -> list[str]:
    """File names, each after those that it requires."""
    needs = {}
    for path in folder.glob("*.v"):
        code = without_comments(path.read_text(encoding="utf-8"))
        lines = re.findall(rf"From\s+{LIBRARY}\s+Require\s+(?:Import\s+|Export\s+)?([\w\s]+)\.", code)
        needs[path.name] = {f"{word}.v" for line in lines for word in line.split()}
    return list(TopologicalSorter({name: needs[name] for name in sorted(needs)}).static_order())


def coqc(build: Path, name: str) -> str:
    """What Coq prints when it compiles a file; raises Fault with its message if it refuses."""
    command = ["coqc", "-q", "-w", "none", "-Q", ".", LIBRARY, name]
    done = subprocess.run(command, cwd=build, capture_output=True, text=True)
    if done.returncode:
        raise Fault(f"{name}: Coq refuses it:\n{(done.stdout + done.stderr).strip()}")
    return done.stdout


def ask(build: Path, file: str, theorems: Sequence[str]) -> dict[str, dict[str, str]]:
    """Statement and assumptions of theorems, as Coq prints them, white space apart.

    Args:
        build: folder with the compiled files.
        file: where the theorems are.
        theorems: their names.

    Returns:
        For each theorem {"statement": …, "assumptions": …}.
    """
    module, mark = file.removesuffix(".v"), "=====8<====="
    lines = ["From mathcomp Require Import all_ssreflect all_algebra.", "Import GRing.Theory Num.Theory."]
    lines += ["Open Scope ring_scope.", f"From {LIBRARY} Require {module}."]
    for theorem in theorems:
        for question in ("Check", "Print Assumptions"):
            lines += [f'Goal True. idtac "{mark}". Abort.', f"{question} @{module}.{theorem}.".replace("ns @", "ns ")]
    (build / "questions.v").write_text("\n".join(lines), encoding="utf-8")
    try:
        answers = [" ".join(answer.split()) for answer in coqc(build, "questions.v").split(mark)[1:]]
    except Fault as fault:
        raise Fault(f"{file}: a theorem named in {THEOREMS} is missing: {fault}") from None
    found = {}
    for theorem, statement, assumptions in zip(theorems, answers[::2], answers[1::2], strict=True):
        if assumptions != CLOSED:
            raise Fault(f"{file}: {theorem} is not proved outright: {assumptions}")
        found[theorem] = {"statement": statement.partition(" : ")[2], "assumptions": assumptions}
    return found


def check(folder: Path, record: bool = False) -> dict[str, Any]:
    """Checks every theorem of a folder; prints a line a file and a line a theorem as it goes.

    Args:
        folder: with *.v, theorems.json and, unless it is to be written, checked.json.
        record: take statements and hashes as they are now.

    Returns:
        The record: versions, {file: {"sha256", "seconds", "date"}} under "files", and {"file.v:theorem":
        {"statement", "assumptions"}} under "theorems".

    Raises:
        Fault: something is open, assumed, refused by Coq, or not as recorded.
    """
    wanted = json.loads((folder / THEOREMS).read_text(encoding="utf-8"))
    path = folder / RECORD
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"files": {}, "theorems": {}}
    new: dict[str, Any] = {**versions(), "files": {}, "theorems": {}}
    names = in_order(folder)
    for theorem in wanted:
        if theorem["file"] not in names:
            raise Fault(f"{theorem['file']}: named in {THEOREMS}, but it is not there")
    with tempfile.TemporaryDirectory() as temporary:
        build = Path(temporary)
        for place, name in enumerate(names, 1):
            refuse_what_is_open(name, (folder / name).read_text(encoding="utf-8"))
            shutil.copy(folder / name, build)
            start = time.monotonic()
            coqc(build, name)
            seconds = time.monotonic() - start
            print(f"[{place}/{len(names)}] {name:34} {seconds:5.1f} s", flush=True)
            new["files"][name] = _file_entry(folder / name, seconds, old["files"].get(name))
            theorems = sorted({theorem["theorem"] for theorem in wanted if theorem["file"] == name})
            for theorem, answer in ask(build, name, theorems).items() if theorems else ():
                new["theorems"][f"{name}:{theorem}"] = answer
                claims = [entry["claim"] for entry in wanted if (entry["file"], entry["theorem"]) == (name, theorem)]
                print(f"    {theorem}: {', '.join(claims)}", flush=True)
    new["files"], new["theorems"] = dict(sorted(new["files"].items())), dict(sorted(new["theorems"].items()))
    if not record:
        compare(old, new)
    return new


def _file_entry(path: Path, seconds: float, old: dict[str, Any] | None) -> dict[str, Any]:
    """What the record says of a file; an unchanged one keeps its entry."""
    digest = sha256(path)
    if old and old["sha256"] == digest:
        return old
    return {"sha256": digest, "seconds": round(seconds, 1), "date": datetime.now(UTC).date().isoformat()}


def compare(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises Fault where statements or files are not those on record, naming the first."""
    for key in sorted(old["theorems"].keys() | new["theorems"].keys()):
        then, now = (found["theorems"].get(key, {}).get("statement") for found in (old, new))
        if then != now:
            raise Fault(f"{key}: not the statement on record\n  now:    {now}\n  record: {then}")
    for name in sorted(old["files"].keys() | new["files"].keys()):
        then, now = (found["files"].get(name, {}).get("sha256") for found in (old, new))
        if then != now:
            raise Fault(f"{name}: not the file on record; look at it, then run check.py --record")


def versions() -> dict[str, str]:
    """Versions of Coq and of Debian's mathcomp, "unknown" where the latter came another way."""
    coq = subprocess.run(["coqc", "--print-version"], capture_output=True, text=True, check=True).stdout.split()[0]
    mathcomp = "unknown"
    if shutil.which("dpkg-query"):
        query = ["dpkg-query", "--show", "--showformat=${Version}", "libcoq-mathcomp-ssreflect"]
        mathcomp = subprocess.run(query, capture_output=True, text=True).stdout.partition("-")[0] or mathcomp
    return {"coq": coq, "mathcomp": mathcomp}


def coq_is_missing() -> str | None:
    """What is missing, None if Coq and its libraries are there."""
    if not shutil.which("coqc"):
        return "there is no coqc on this machine"
    with tempfile.TemporaryDirectory() as folder:
        code = "From mathcomp Require Import all_ssreflect all_algebra all_field all_real_closed ring.\n"
        (Path(folder) / "libraries.v").write_text(code)
        try:
            coqc(Path(folder), "libraries.v")
        except Fault:
            return "Coq is here, but one of its libraries is not"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints a table, writes the record if asked to, returns the exit code."""
    parser = argparse.ArgumentParser(description="have Coq check the theorems behind claims")
    parser.add_argument("--record", action="store_true", help="renew the record instead of comparing with it")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are")
    options = parser.parse_args(arguments)
    missing = coq_is_missing()
    if missing:
        print(f"NOT CHECKED: {missing}. On Debian: apt-get install --no-install-recommends {PACKAGES}", file=sys.stderr)
        return NO_COQ
    try:
        found = check(options.folder, options.record)
    except Fault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    if options.record:
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        (options.folder / RECORD).write_text(text, encoding="utf-8")
    print(f"{len(found['theorems'])} theorems in {len(found['files'])} files: no assumption, no open proof")
    return 0


if __name__ == "__main__":
    sys.exit(main())
