"""Evidence made anew: every arm that claims rest on is tuned and measured; what is interrupted goes on where it was.

A line of the journal counts as long as neither its arm nor the code that made it has changed: each names the digest of
this module with all that it imports, which is the whole simulator.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lorakappa.shared.code_state import module_digest
from lorakappa.shared.forecast import tracked
from lorakappa.shared.whole_files import ensure_folder
from lorakappa.synthetic.arms.arm import FINALISTS, Arm, Choice, Measured
from lorakappa.synthetic.arms.evidence import BATCH, FINAL, SEED, SELECTION, Line, key, line_of, needed, read_lines
from lorakappa.synthetic.arms.simulating import SECOND_ROUND, choose, measure, refine, root

JOURNAL = "simulations.jsonl"

STEPS_PER_SECOND = 250_000.0
"""Steps of a trajectory, as the README has them for two cores, BaLoRA under gradient descent."""


def forecast(arms: Iterable[Arm]) -> float:
    """Seconds that arms take, roughly, on two cores."""
    return sum(_steps(arm) for arm in needed(arms)) / STEPS_PER_SECOND


def missing(arms: Iterable[Arm], journal: Path) -> list[Arm]:
    """The arms that a journal does not have yet."""
    there, _ = _read(journal)
    return [arm for arm in needed(arms) if key(arm) not in there]


def make(arms: Iterable[Arm], journal: Path, *, quiet: bool = False) -> list[Line]:
    """Makes the records of arms that a journal does not have yet, and returns all.

    Args:
        arms: that are needed.
        journal: a line is added to it for each arm; what it ends with after an interruption is left out, and lines
            that other code made are passed over.
        quiet: no progress bar.

    Raises:
        OSError: if the journal cannot be written.
        ValueError: if it holds something else.
    """
    ensure_folder(journal.parent)
    journal.parent.mkdir(parents=True, exist_ok=True)
    lines, size = _read(journal)
    todo = [arm for arm in needed(arms) if key(arm) not in lines]
    with journal.open("ab") as stream:
        stream.truncate(size)  # a line that an interruption has cut
        for index in tracked(len(todo), "arms", quiet=quiet):
            line = record(todo[index], lines)
            lines[line.key] = line
            stream.write(line.text(code=module_digest(__name__)).encode())
            stream.flush()
    return [lines[key(arm)] for arm in needed(arms)]


def record(arm: Arm, there: Mapping[str, Line]) -> Line:
    """Tunes and measures an arm; the tuning of another one is taken from what is there, if it is."""
    chooser = arm.chooser
    line = there.get(key(chooser))
    choice = line.choice(arm) if line is not None else _chosen(arm)
    found = [measure_batch(arm, choice, batch) for batch in range(arm.batches)]
    together = np.concatenate([part.values for part in found], axis=1)
    own = choice if arm == chooser else None
    return line_of(arm, own, Measured(together, sum(part.diverged for part in found)))


def _chosen(arm: Arm) -> Choice:
    """What is chosen for an arm, in two rounds."""
    tried = choose(arm, seed=root(SEED, 0), count=SELECTION)
    return refine(arm, tried, seed=root(SEED, SECOND_ROUND), count=FINAL)


def measure_batch(arm: Arm, choice: Choice, batch: int, *, jitter: float = 0.0) -> Measured:
    """What one batch of problems on record gives."""
    return measure(arm, choice, seed=root(SEED, 1 + batch), count=BATCH, jitter=jitter)


def _steps(arm: Arm) -> float:
    """Steps of a trajectory that an arm takes, with its tuning if it is its own."""
    points = int(arm.step_sizes.partition(":")[2] or 50)
    rounds = SELECTION * points * len(arm.variants()) + FINAL * FINALISTS
    tuning = rounds if arm == arm.chooser else 0
    measuring = BATCH * arm.batches * (points if arm.quantity == "window" else 1)
    return float(arm.steps * arm.layers * (tuning + measuring))


def _read(journal: Path) -> tuple[dict[str, Line], int]:
    """The records of a journal that this code made, by the arm's key, and how many bytes of it are whole lines."""
    if not journal.is_file():
        return {}, 0
    content = journal.read_bytes()
    size = content.rfind(b"\n") + 1
    lines = read_lines(content[:size], str(journal), code=module_digest(__name__))
    return {line.key: line for line in lines}, size
