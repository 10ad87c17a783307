"""Every command with arguments that are valid and cheap, and valid values of its options."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import typer
from hypothesis import strategies as st

from lorakappa.__main__ import command_line
from tests.figures.samples import SAMPLES, save
from tests.fuzz.hostile import NUMBERS, File, files, make, mutate_bytes, mutated_file, texts

WRITTEN = ("--out", "--json", "--comparison")
"""Options that name what is written: a hostile one must stay in the folder of its case."""


@dataclass(frozen=True)
class Command:
    """A command as it is fuzzed.

    Attributes:
        base: valid and cheap arguments, the command's name first; what is drawn is appended, and the last one counts.
        values: valid values by option; where an option takes several arguments they are separated by blanks.
        suffix: of the files that an option takes.
        setup: makes input files in the folder of a case.
        weight: share of the cases.
        extra: whether it takes positional arguments, which are fuzzed, too.
        needs: fixture that it needs.
    """

    base: tuple[str, ...]
    values: dict = field(default_factory=dict)
    suffix: dict = field(default_factory=dict)
    setup: Callable | None = None
    weight: float = 1.0
    extra: bool = False
    needs: str = ""

    @property
    def name(self) -> str:
        group = self.base[0] in ("synthetic", "llm")
        return " ".join(self.base[: 1 + group])


def options(name):
    """Options of a command by their first spelling: number of arguments, 0 for a flag."""
    command = typer.main.get_command(command_line())
    for part in name.split():
        command = command.commands[part]
    return {
        p.opts[0]: 0 if getattr(p, "is_flag", False) or getattr(p, "is_bool_flag", False) else p.nargs
        for p in command.params
        if p.opts[0].startswith("-")
    }


def all_commands():
    """The name of every command there is."""

    def walk(command, path=()):
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(inner, (*path, name))
        else:
            yield " ".join(path)

    return sorted(walk(typer.main.get_command(command_line())))


OUT = ["out", "deep/er/out"]
METHODS = [
    "lora,balora",
    "lora,ilora",
    "scaled-gd,balora@2",
    "lora,balora-symmetric,pilora:lambda=0.1",
    "lora-plus,lora",
]
PROBLEM = {
    "--shape": ["4 3", "3 4", "5 5"],
    "--rank": ["1", "2"],
    "--target": ["gaussian", "linear", "geometric:0.5", "power-law:1", "target.npy", "vector.txt", "target.npz"],
    "--start": ["lora", "gaussian", "balanced", "imbalanced:2"],
    "--init-std": ["1", "0.1"],
    "--seeds": ["1", "3"],
    "--seed": ["0", "7"],
    "--out": OUT,
}
RUNS = {
    "--optimizer": ["gd", "sign-gd", "sign", "adam"],
    "--methods": METHODS,
    "--steps": ["1", "3"],
    "--step-sizes": ["auto:3", "0.1", "0.01:1:3"],
    "--select": ["final", "area", "threshold"],
    "--lambdas": ["0.1,1", "1"],
}
SMALL = ("--shape", "4", "3", "--rank", "2", "--out", "out")
SHORT = ("--steps", "2", "--step-sizes", "0.01:0.1:2", "--seeds", "2")
TARGET = {"--target": ".npy"}


def targets(folder, rng):
    matrix = rng.standard_normal((4, 3))
    np.save(folder / "target.npy", matrix)
    np.savez(folder / "target.npz", matrix)
    np.savetxt(folder / "vector.txt", [3.0, 2.0, 1.0])
    for name in ("target.npy", "target.npz", "vector.txt"):
        if rng.integers(4) == 0:
            (folder / name).write_bytes(mutate_bytes((folder / name).read_bytes(), rng))


def pair(folder, rng):
    A, B = rng.standard_normal((4, 2)), rng.standard_normal((2, 3))
    np.savez(folder / "pair.npz", A=A, B=B, Z=A @ B * (10.0 ** rng.integers(-160, 160) if rng.integers(4) == 0 else 1))
    if rng.integers(2) == 0:
        mutated_file(folder / "pair.npz", rng)


def saved_results(folder, rng):
    for name in rng.choice(sorted(SAMPLES), size=2, replace=False):
        saved = SAMPLES[name]()
        save(saved, folder)
        if rng.integers(4):
            mutated_file(folder / f"{name}.{'npz' if saved.arrays and rng.integers(2) else 'json'}", rng)


VERDICTS: list = []
"""Verdicts on some claims, as `verify --json` writes them; made once."""


def verdicts(folder, rng):
    if not VERDICTS:
        from lorakappa.conditioning.verification.examination import examine, known_claims, select
        from lorakappa.shared.packages import CLAIMS
        from lorakappa.shared.records import write_json

        chosen = select(known_claims(CLAIMS), ["invariance", "model1-lower-bound"][:1], package=None, source=None)
        chosen += select(known_claims({"conditioning": CLAIMS["conditioning"]}), [], package=None, source=None)[:3]
        found = examine(chosen, trials=3, seed=0, jobs=1, quiet=True)
        file = write_json(folder / "verdicts.json", [verdict.as_json() for verdict in found])
        VERDICTS.extend(json.loads(file.read_text()))
    (folder / "verdicts.json").write_text(json.dumps(VERDICTS))
    if rng.integers(4):
        mutated_file(folder / "verdicts.json", rng)


def adapter(folder, rng, name="adapter"):
    """An adapter of two layers, as PEFT writes it, with something wrong in it more often than not."""
    from safetensors.numpy import save_file

    (folder / name).mkdir()
    dtype = [np.float32, np.float32, np.float16, np.float64][rng.integers(4)]
    scale = 10.0 ** ([0, 0, 0, -45, 30, -200][rng.integers(6)])
    with np.errstate(all="ignore"):
        tensors = {
            f"base_model.model.model.layers.{i}.self_attn.q_proj.lora_{part}.weight": (
                scale * rng.standard_normal(shape)
            ).astype(dtype)
            for i in range(2)
            for part, shape in (("A", (2, 5)), ("B", (4, 2)))
        }
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "r": 2, "lora_alpha": 2,
        "target_modules": ["q_proj"], "lora_dropout": 0.0, "bias": "none", "use_dora": False, "use_rslora": False,
    }  # fmt: skip
    kind = rng.integers(6)
    if kind == 1:
        key = sorted(tensors)[rng.integers(len(tensors))]
        tensors[key] = [tensors[key][:1], tensors[key][None], np.full_like(tensors[key], np.nan), tensors[key][:0]][
            rng.integers(4)
        ]
    if kind == 2:
        key = sorted(tensors)[rng.integers(len(tensors))]
        tensors[["[/x].lora_A.weight", "x", "lora_A", f"{key}.extra", ""][rng.integers(5)]] = tensors.pop(key)
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        folder / name / "adapter_model.safetensors",
    )
    (folder / name / "adapter_config.json").write_text(json.dumps(config))
    (folder / name / "README.md").write_text("mine")
    if kind == 3:
        mutated_file(folder / name / "adapter_config.json", rng)
    if kind == 4:
        mutated_file(folder / name / "adapter_model.safetensors", rng)
    if kind == 5:
        extra = folder / name / f"extra{rng.integers(9)}"
        make(File(["fifo", "socket", "dangling", "loop", "folder", "binary"][rng.integers(6)], ""), extra)


def two_adapters(folder, rng):
    """Two of them, of which at most one has something wrong."""
    fine = np.random.default_rng(0)
    while True:
        adapter(folder, fine, "other")
        try:
            from lorakappa.llm import read_adapter

            read_adapter(folder / "other")
        except (ValueError, OSError):
            shutil.rmtree(folder / "other")
            continue
        break
    adapter(folder, rng)


def any_adapter(folder, rng):
    """An adapter in one of the formats, under one name; half of the files are damaged."""
    from safetensors.numpy import save_file

    kind = rng.integers(4)
    if kind == 0:
        adapter(folder, rng)
        return
    A, B = rng.standard_normal((4, 2)).astype(np.float32), rng.standard_normal((2, 5)).astype(np.float32)
    names = {
        1: ("lora_unet_mid_block_conv.lora_up.weight", "lora_unet_mid_block_conv.lora_down.weight"),
        2: ("unet.mid_block.conv.lora_B.weight", "unet.mid_block.conv.lora_A.weight"),
        3: ("unet.mid_block.processor.to_q_lora.up.weight", "unet.mid_block.processor.to_q_lora.down.weight"),
    }[int(kind)]
    tensors = dict(zip(names, (A, B), strict=True))
    if rng.integers(2):
        stem = names[0].rpartition(".lora")[0] if kind < 3 else "unet.mid_block.to_q"
        alphas = [np.float32(4), np.float32(0), np.float32("nan"), np.ones(2, np.float32), np.int64(3)]
        tensors[f"{stem}.alpha"] = np.asarray(alphas[rng.integers(5)])
    metadata = [None, {"lora_adapter_metadata": '{"unet.r": 2, "unet.lora_alpha": 3}'}, {"lorakappa_modules": "[1]"},
                {"lora_adapter_metadata": '{"unet.alpha_pattern": {"[": 1}, "vae.r": 1}'}][rng.integers(4)]  # fmt: skip
    save_file(tensors, folder / "adapter", metadata=metadata)
    if rng.integers(2):
        mutated_file(folder / "adapter", rng)


def llm_data(folder, rng):
    rows = [{"question": f"{i} + 1 =", "answer": str(i + 1)} for i in range(40)]
    if rng.integers(3) == 0:
        from tests.fuzz.hostile import mutate_json

        rows = mutate_json(rows, rng)
    rows = rows if isinstance(rows, list) else [rows]
    kind = rng.integers(3)
    if kind == 0:
        content = json.dumps(rows).encode()
        name = "data.json"
    elif kind == 1:
        name = "data.csv"
        content = ("question,answer\n" + "".join(f"{i} + 1 =,{i + 1}\r\n" for i in range(40))).encode()
    else:
        name = "data.jsonl"
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if rng.integers(4) == 0:
        content = mutate_bytes(content, rng)
    for each in ("data.json", "data.csv", "data.jsonl"):
        (folder / each).write_bytes(content if each == name else b"")


LLM = {
    "--preset": ["tiny"],
    "--model": ["MODEL"],
    "--dtype": ["float32", "bfloat16"],
    "--data": ["data.jsonl", "data.json", "data.csv", "mathematics", "mathematics-topics"],
    "--modules": ["numbers__gcd"],
    "--columns": ["question,answer", "{question}?,{answer}"],
    "--examples": ["8,2,2", "6,3,3"],
    "--steps": ["1", "3"],
    "--batch-size": ["1", "4"],
    "--accumulation": ["1", "2"],
    "--max-length": ["64"],
    "--schedule": ["constant", "linear", "cosine"],
    "--warmup": ["0", "0.5"],
    "--generate": ["0", "2"],
    "--checkpoint-every": ["0", "1"],
    "--seed": ["0", "3"],
    "--out": OUT,
}
STUDY = """
[data]
examples = [8, 2, 2]
[settings]
steps = 2
evaluations = 1
generate = 0
[selection]
seeds = 1
[fresh]
minimum = 2
maximum = 2
[[tables]]
name = "one"
methods = ["lora", "balora"]
ranks = [2]
learning_rates = [1e-3]
"""


def study(folder, rng):
    """A study's file with its data, and a folder of that study, with something wrong in it now and then."""
    from tests.fuzz.hostile import mutate_json

    llm_data(folder, rng)
    text = STUDY if rng.integers(3) else STUDY.replace("2", str([0, -1, 1e9, "x", "[[1]]"][rng.integers(5)]))
    (folder / "mine.toml").write_text(text)
    (folder / "study").mkdir()
    (folder / "study" / "study.toml").write_text(text)
    about = {"name": "mine", "model": None, "data": None, "source": "sums", "digest": "0" * 64}
    about = about if rng.integers(3) else mutate_json(about, rng)
    (folder / "study" / "about.json").write_text(json.dumps(about))


TUNED = ("--model", "MODEL", "--preset", "tiny", "--data", "data.jsonl", "--examples", "8,2,2", "--steps", "2")

COMMANDS = [
    Command(("list",), {"--package": ["conditioning", "llm"], "--source": ["theorem"]}, weight=0.3),
    Command(
        ("verify", "invariance", "--trials", "2", "--jobs", "1"),
        {
            "--package": ["conditioning"], "--source": ["paper"], "--seed": ["0", "5"], "--jobs": ["1", "2", "4096"],
            "--trials": ["1", "3"], "--json": ["v.json"],
        },
        {"--json": ".json"},
        weight=0.6,
        extra=True,
    ),
    Command(
        ("replay", "invariance", "--trials", "2"),
        {"--from": ["verdicts.json"], "--trials": ["1", "3"], "--seed": ["1"]},
        {"--from": ".json"},
        setup=verdicts,
        weight=1.5,
    ),
    Command(("sources",), {"--document": ["ilora", "poster"], "--json": ["map.json"]}, {"--json": ".json"}, weight=0.3),
    Command(("kappa", "pair.npz"), {"--rtol": ["1e-6", "1"]}, {"FILE": ".npz"}, setup=pair, weight=1.5, extra=True),
    Command(
        ("figures", "all", "--from", ".", "--out", "out"),
        {"--from": ["."], "--out": OUT, "--format": ["png", "svg", "pdf,png"]},
        setup=saved_results,
        weight=1.5,
        extra=True,
    ),
    Command(
        ("report", "--from", ".", "--out", "out"),
        {"--from": [".", "nowhere"], "--out": OUT},
        setup=verdicts,
        weight=0.3,
    ),
    Command(
        ("synthetic", "convergence", *SMALL, *SHORT),
        {
            **PROBLEM, **RUNS, "--loss": ["one-layer", "two-layer", "mlp", "weighted"], "--scaling": ["1", "2"],
            "--weights": ["10 10", "1 100"], "--alignment": ["random", "crossed"],
            "--tune": ["shared", "per-seed"], "--device": ["cpu"],
        },
        TARGET,
        setup=targets,
        weight=1.5,
    ),
    Command(
        ("synthetic", "rates", *SMALL, "--instances", "2", "--steps", "20", "--rules", "gd"),
        {
            **PROBLEM, "--rules": ["gd", "gd,sign-gd", "sign-gd-sharp", "balora-gd"], "--instances": ["1", "2"],
            "--spread": ["0", "0.3"], "--kappa-max": ["1000"], "--steps": ["3", "20"],
        },
        TARGET,
        setup=targets,
    ),
    Command(
        ("synthetic", "kappa-histogram", *SMALL, "--draws", "3", "--limits", "2", "--steps", "5"),
        {
            **PROBLEM, "--draws": ["1", "5"], "--limits": ["0", "3"], "--spread": ["0", "0.5"], "--steps": ["1", "9"],
        },
        TARGET,
        setup=targets,
    ),
    Command(
        ("synthetic", "phase", *SMALL, *SHORT, "--decays", "0.5,0.9", "--init-stds", "0.1,1"),
        {
            **PROBLEM, **RUNS, "--spectrum": ["geometric", "power-law"], "--decays": ["0.5", "0.5,0.7"],
            "--init-stds": ["0.1", "0.1,1"], "--methods": ["lora,balora", "lora,scaled-gd"],
        },
    ),
    Command(
        ("synthetic", "duel", "--shapes", "4x3", "--rank", "2", "--out", "out", *SHORT, "--decays", "0.5",
         "--starts", "lora", "--methods", "lora,balora", "--step-sizes", "auto:3"),
        {
            **PROBLEM, **RUNS, "--spectrum": ["geometric", "power-law"], "--decays": ["0.5", "0.5,0.7"],
            "--shapes": ["4x3", "4x3,3x4"], "--starts": ["lora,balanced", "gaussian"],
        },
    ),
    Command(
        ("synthetic", "gauges", *SMALL, *SHORT, "--conditions-c", "1,10", "--conditions-d", "10", "--optimizers", "gd",
         "--methods", "lora,balora-fisher", "--step-sizes", "auto:3"),
        {
            **PROBLEM, **RUNS, "--conditions-c": ["1", "1,10"], "--conditions-d": ["1", "1,10"],
            "--alignment": ["crossed"], "--optimizers": ["gd", "sgd", "adam,gd"], "--noise": ["0.1", "1"],
            "--methods": ["lora,balora-data", "lora,balora"],
        },
        TARGET,
        setup=targets,
    ),
    Command(
        ("synthetic", "ratios", "--shapes", "4x3", "--rank", "2", "--out", "out", *SHORT, "--factors", "1",
         "--powers", "0,1", "--step-sizes", "auto:3"),
        {
            **PROBLEM, **RUNS, "--method": ["ilora", "pilora"], "--factors": ["1", "0.5,2"], "--powers": ["0", "-1,1"],
            "--shapes": ["4x3", "4x3,3x4"],
        },
        TARGET,
        setup=targets,
    ),
    Command(
        ("synthetic", "settle", *SMALL, *SHORT),
        {**PROBLEM, **RUNS, "--rank": ["1", "2", "3"]},
        TARGET,
        setup=targets,
        weight=0.4,
    ),
    Command(("synthetic", "manifold", "--out", "out"), {"--out": OUT}, weight=0.15),
    Command(("synthetic", "evidence", "--dry-run"), {"--out": OUT, "--evidence": OUT}, weight=0.1),
    Command(("synthetic", "list"), {"--source": ["paper"]}, weight=0.1),
    Command(
        ("synthetic", "verify", "gd-step-imbalance", "--trials", "2", "--jobs", "1"),
        {"--json": ["v.json"], "--seed": ["1"]},
        {"--json": ".json"},
        weight=0.2,
    ),
    Command(("synthetic", "replay", "gd-step-imbalance", "--trials", "2"), {}, {"--from": ".json"},
            weight=0.2),
    Command(("llm", "list"), {"--source": ["paper"]}, weight=0.1),
    Command(("llm", "verify", "nosuch", "--trials", "2", "--jobs", "1"), {}, {"--json": ".json"},
            weight=0.2),
    Command(("llm", "replay", "llm-balora-loss", "--trials", "2"), {}, {"--from": ".json"},
            weight=0.2),
    Command(("llm", "methods"), weight=0.1),
    Command(("llm", "presets"), weight=0.1),
    Command(
        ("llm", "audit", "adapter"), {"--json": ["a.json", "a.txt"]}, {"--json": ".json"}, setup=any_adapter, weight=2,
        extra=True, needs="llm",
    ),
    Command(
        ("llm", "balance", "adapter", "--out", "out"),
        {"--out": [*OUT, "out.safetensors"], "--gauge": ["hyperbalanced", "nearest", "symmetric"],
         "--json": ["a.json"]},
        {"--json": ".json"},
        setup=any_adapter,
        weight=2,
        extra=True,
        needs="llm",
    ),
    Command(
        ("llm", "convert", "adapter", "--to", "diffusers", "--out", "out"),
        {
            "--out": [*OUT, "out.safetensors"], "--to": ["peft", "diffusers", "kohya"],
            "--component": ["unet", "text_encoder_2"], "--names-from": ["adapter", "."], "--json": ["a.json"],
        },
        {"--json": ".json"},
        setup=any_adapter,
        weight=2,
        extra=True,
        needs="llm",
    ),
    Command(
        ("llm", "resize", "adapter", "--out", "out", "--rank", "1"),
        {
            "--out": [*OUT, "out.safetensors"], "--rank": ["1", "2", "9"], "--energy": ["0.5", "1"],
            "--nuclear": ["0.9"], "--error": ["0", "0.1"], "--spectral-error": ["0.5"], "--json": ["a.json"],
        },
        {"--json": ".json"},
        setup=any_adapter,
        weight=1.5,
        extra=True,
        needs="llm",
    ),
    Command(
        ("llm", "fold", "adapter", "--out", "out"), {"--out": [*OUT, "out.safetensors"], "--json": ["a.json"]},
        {"--json": ".json"}, setup=any_adapter, extra=True, needs="llm",
    ),
    Command(
        ("llm", "merge", "adapter", "other", "--out", "out"),
        {"--out": OUT, "--weights": ["1,1", "0.5,-2", "0,1e30"], "--rank": ["1", "3"], "--json": ["a.json"]},
        {"--json": ".json"},
        setup=two_adapters,
        weight=1.5,
        extra=True,
        needs="llm",
    ),
    Command(
        ("llm", "diff", "adapter", "other"), {"--json": ["a.json"]}, {"--json": ".json"},
        setup=two_adapters, extra=True, needs="llm",
    ),
    Command(
        ("llm", "compare", *TUNED, "--methods", "lora,balora", "--ranks", "2", "--learning-rates", "1e-3,1e-2",
         "--seeds", "2", "--extensions", "1", "--evaluations", "2", "--jobs", "1", "--out", "out"),
        {
            **LLM, "--methods": ["lora,ilora", "lora,balora@2"], "--ranks": ["1,2"],
            "--learning-rates": ["1e-3:1e-2:2"],
            "--scalings": ["1,2"], "--lambdas": ["1,2"], "--seeds": ["1", "2"], "--extensions": ["0", "1"],
            "--weight-decay": ["0.1"], "--clip": ["0", "1"], "--dropout": ["0.1"], "--targets": ["q_proj"],
            "--evaluations": ["1"], "--jobs": ["1", "2", "4096"],
        },
        {"--data": ".jsonl"},
        setup=llm_data,
        weight=1.5,
        needs="llm",
    ),
    Command(
        ("llm", "report", "study"),
        {"--json": ["a.json"], "--comparison": ["made"], "--methods": ["lora", "balora,lora"]},
        {"--json": ".json"},
        setup=study,
        extra=True,
        needs="llm",
    ),
    Command(
        ("llm", "compare", "--study", "mine.toml", "--model", "MODEL", "--data", "data.jsonl", "--jobs", "1"),
        {"--data": ["data.jsonl", "data.csv"], "--study": ["smoke"], "--jobs": ["1", "2"], "--out": OUT},
        {"--data": ".jsonl"},
        setup=study,
        weight=0.5,
        needs="llm",
    ),
    Command(
        ("llm", "finetune", "lora", *TUNED, "--out", "out"),
        {**LLM, "--rank": ["1", "2"], "--learning-rate": ["1e-3"], "--scaling": ["1"]},
        {"--data": ".jsonl"},
        setup=llm_data,
        weight=1.5,
        extra=True,
        needs="llm",
    ),
    Command(
        ("llm", "curvature", "trained", "--model", "MODEL", "--data", "data.jsonl", "--examples", "2", "--out", "out"),
        {
            "--data": ["data.jsonl"], "--layers": ["q_proj", "0", "all"], "--solver": ["dense", "lanczos", "auto"],
            "--columns": ["question,answer"], "--seed": ["1"], "--dtype": ["float32"], "--out": OUT,
        },
        {"--data": ".jsonl"},
        setup=llm_data,
        extra=True,
        needs="llm",
    ),
    Command(("llm", "pretrain", "--out", "out", "--steps", "2"), {"--out": OUT, "--steps": ["1"]}, weight=0.15,
            needs="llm"),
]  # fmt: skip
"""All of them."""

FLAGS_LEFT_OUT = ("--help",)


def inside(text):
    """The text as a path that stays in the folder of its case."""
    cleaned = text.replace("/", "_")
    return "x" if cleaned in (".", "..", "~", "") or cleaned.startswith("~") else cleaned


@st.composite
def cases(draw, command, known):
    """(arguments, files to make by argument index, seed of the setup)."""
    arguments = [*command.base]
    made = {}
    taking = draw(st.integers(0, 4))
    chosen = draw(st.lists(st.sampled_from(sorted(known)), min_size=taking, max_size=taking)) if known else []
    for option in chosen:
        arguments.append(option)
        if known[option] == 0:
            continue
        if option in command.values and draw(st.booleans()):
            arguments += draw(st.sampled_from(command.values[option])).split(" ")
            continue
        takes_files = option in command.suffix or option in WRITTEN
        if takes_files and draw(st.booleans()):
            made[len(arguments)] = draw(files(command.suffix.get(option, "")))
            arguments.append("")
            continue
        for _ in range(known[option]):
            text = draw(st.one_of(texts, st.sampled_from(NUMBERS)))
            arguments.append(inside(text) if option in WRITTEN else text.replace("/", "") or "")
    if command.extra and draw(st.integers(0, 4)) == 0:
        at = command.base.index(next(x for x in command.base[1 + (command.base[0] in ("synthetic", "llm")) :]))
        if "FILE" in command.suffix and draw(st.booleans()):
            made[at] = draw(files(command.suffix["FILE"]))
        else:
            arguments[at] = draw(texts).replace("/", "")
    return arguments, made, draw(st.integers(0, 2**32 - 1))


def materialize(command, arguments, made, seed, folder, places):
    """Makes the files of a case and puts names in for placeholders."""
    rng = np.random.default_rng(seed)
    if command.setup is not None:
        command.setup(folder, rng)
    finished = []
    for i, argument in enumerate(arguments):
        if i in made:
            finished.append(make(made[i], folder / f"made{i}{made[i].suffix}"))
        elif argument == "trained":
            shutil.copytree(places["trained"], folder / "trained")
            finished.append("trained")
        else:
            finished.append(places.get(argument, argument))
    return [str(argument) for argument in finished if isinstance(argument, str | Path)]
