"""Prompts and completions for supervised fine-tuning: train, validation and test with no prompt in common.

Inside one split a prompt may have several completions, as in data with several references.
"""

import functools
import hashlib
import json
import random
import shutil
import string
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorakappa.llm.data import mathematics
from lorakappa.shared.records import write_bytes, write_json

MATHEMATICS = "mathematics"
"""The source that is generated on the spot."""

SPLITS = ("train", "validation", "test", "extrapolate")

IGNORED = -100
"""The label that transformers' loss leaves out."""

ALIASES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",), "train": ("train",)}
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class Example:
    """A prompt and what should follow it, joined as they are."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Splits:
    """The data of a fine-tune; no prompt occurs in two splits.

    Attributes:
        train: to learn from.
        validation: of the same distribution, to choose by.
        test: to report.
        extrapolate: harder than anything in the others; may be empty.
        source: where they come from, in words.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    extrapolate: tuple[Example, ...]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of the contents, in hexadecimal; the source does not count."""
        contents = [[[e.prompt, e.completion] for e in getattr(self, name)] for name in SPLITS]
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def load_splits(
    source: str,
    *,
    modules: Sequence[str] = (),
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
    columns: tuple[str, str] | None = None,
    resplit: bool = False,
) -> Splits:
    """Loads, or generates, data for a fine-tune.

    DeepMind Mathematics is trained and validated on its training levels in equal shares and tested on "interpolate";
    where its modules have an "extrapolate" level, as many questions of that are added. Its prompts end with the line
    break between question and answer. All else is read by `datasets.load_dataset` and keeps the splits that it has;
    those it lacks are cut from its train split.

    Args:
        source: "mathematics" to generate questions; the folder or .tar.gz of the official files; or a hub id
            ("owner/name", or "owner/name:configuration"), a folder or a .jsonl, .json, .csv or .parquet file.
        modules: of DeepMind Mathematics; empty for `llm.data.mathematics.FINE_TUNING_MODULES`.
        train: number of training examples.
        validation: number of validation examples.
        test: number of test examples.
        seed: of the draws or of the choice.
        columns: names of the prompt and completion columns, or texts with such names in braces ("{a}, {b}? "); None
            looks for prompt and completion, then for question and answer, which are joined by a line break.
        resplit: whether to cut all splits from the train split of a data set that has others, such as one whose test
            answers are hidden.

    Returns:
        The splits, in random order.

    Raises:
        OSError: if the source cannot be read or reached.
        ValueError: for too few examples, missing columns, or unknown or failing modules.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")
    path = Path(source).expanduser()
    if source == MATHEMATICS or mathematics.is_official(path):
        return _mathematics(source, tuple(dict.fromkeys(modules)) or mathematics.FINE_TUNING_MODULES, sizes, seed)
    if modules:
        raise ValueError(f"modules are for DeepMind Mathematics; {source} has none")
    return _table(source, path, sizes, seed, columns, resplit)


def save_splits(splits: Splits, folder: Path) -> Path:
    """Writes splits as JSON lines: whole or not at all.

    Args:
        splits: what to write.
        folder: to create; where it holds the same splits already, it is left as it is.

    Returns:
        The folder.

    Raises:
        OSError: if the folder holds something else or cannot be written.
    """
    if folder.exists():
        if read_splits(folder).digest != splits.digest:
            raise FileExistsError(f"{folder} holds other data; nothing was written")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name in SPLITS:
            lines = [json.dumps({"prompt": e.prompt, "completion": e.completion}) for e in getattr(splits, name)]
            write_bytes(temporary / f"{name}.jsonl", "".join(line + "\n" for line in lines).encode())
        write_json(temporary / "splits.json", {"source": splits.source, "digest": splits.digest})
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir() or read_splits(folder).digest != splits.digest:
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_splits(folder: Path) -> Splits:
    """Reads splits written by `save_splits`.

    Args:
        folder: with splits.json and the .jsonl files.

    Returns:
        The splits.

    Raises:
        OSError: if files are missing or cannot be read.
        ValueError: if they are not what was written.
    """
    if not (folder / "splits.json").is_file():
        raise FileNotFoundError(f"{folder} has no splits.json; name a folder written by save_splits")
    try:
        about = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
        contents = {
            name: tuple(
                Example(**json.loads(line))
                for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
                if line
            )
            for name in SPLITS
        }
        splits = Splits(**contents, source=about["source"])
        digest = about["digest"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder} is damaged: {error}; delete it to have it written again") from None
    if splits.digest != digest:
        raise ValueError(f"{folder} was changed after it was written; delete it to have it written again")
    return splits


def encode(examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Turns examples into tokens and labels; the loss is on the completion and the end token only.

    Prompt and completion are tokenized one by one, so that no token straddles the boundary. Examples that are too
    long are left out, with a warning that counts them: a truncated answer would be a wrong one.

    Args:
        examples: what to encode.
        tokenizer: of the model; its start token comes first if it adds one.
        max_length: tokens that an example may have.

    Returns:
        `input_ids`, `attention_mask` and `labels` by example, for transformers' DataCollatorForSeq2Seq.

    Raises:
        ValueError: if every example is too long, a completion is empty, or the tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token, which tells a model where an answer stops")
    encoded = []
    for example in examples:
        prompt = _prompt_tokens(example.prompt, tokenizer)
        completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        if not completion:
            raise ValueError(f"the completion of {example.prompt!r} is empty; there is nothing to learn from it")
        answer = [*completion, tokenizer.eos_token_id]
        encoded.append(
            {
                "input_ids": [*prompt, *answer],
                "attention_mask": [1] * (len(prompt) + len(answer)),
                "labels": [IGNORED] * len(prompt) + answer,
            }
        )
    kept = [entry for entry in encoded if len(entry["input_ids"]) <= max_length]
    if len(kept) < len(encoded):
        longest = max(len(entry["input_ids"]) for entry in encoded)
        message = f"{len(encoded) - len(kept)} of {len(encoded)} examples have more than {max_length} tokens"
        if not kept:
            raise ValueError(f"{message}; the longest has {longest}")
        warnings.warn(f"{message} and are left out; the longest has {longest}", stacklevel=2)
    return kept


@torch.no_grad()
def exact_match(
    model: Any, tokenizer: Any, examples: Sequence[Example], *, batch_size: int, max_new_tokens: int | None = None
) -> float:
    """Share of prompts that the model, decoding greedily, answers exactly.

    Model and tokenizer are left as they were.

    Args:
        model: a causal language model, with or without PEFT adapter.
        tokenizer: of the model; needs a padding token.
        examples: prompts and right answers; compared without white space around them.
        batch_size: prompts answered at once.
        max_new_tokens: most tokens of an answer; None allows for the longest right one.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: without examples.
    """
    from transformers import GenerationConfig

    if not examples:
        raise ValueError("exact_match needs at least one example")
    if max_new_tokens is None:
        answers = [tokenizer(e.completion, add_special_tokens=False)["input_ids"] for e in examples]
        max_new_tokens = max(len(answer) for answer in answers) + 1
    greedy = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    prompts = [(_prompt_tokens(e.prompt, tokenizer), e.completion.strip()) for e in examples]
    prompts.sort(key=lambda entry: len(entry[0]))
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    modes, own = [(module, module.training) for module in model.modules()], core.generation_config
    model.eval()
    core.generation_config = greedy
    right = 0
    try:
        for start in range(0, len(prompts), batch_size):
            chunk = prompts[start : start + batch_size]
            batch = tokenizer.pad(
                {"input_ids": [tokens for tokens, _ in chunk]}, padding_side="left", return_tensors="pt"
            )
            width = batch["input_ids"].shape[1]
            output = core.generate(**batch.to(core.device))
            texts = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
            right += sum(text.strip() == answer for text, (_, answer) in zip(texts, chunk, strict=True))
    finally:
        core.generation_config = own
        for module, training in modes:
            module.training = training
    return right / len(prompts)


def _prompt_tokens(prompt: str, tokenizer: Any) -> list[int]:
    """Tokens of a prompt, after the start token if the tokenizer adds one."""
    special = tokenizer("")["input_ids"][:1]
    start = special if special and special[0] == tokenizer.bos_token_id else []
    return [*start, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]


def _mathematics(source: str, modules: tuple[str, ...], sizes: Mapping[str, int], seed: int) -> Splits:
    levels = {"test": ("interpolate",), "validation": mathematics.TRAINING_LEVELS, "train": mathematics.TRAINING_LEVELS}
    if source == MATHEMATICS:
        read, origin = mathematics.generate, "DeepMind Mathematics, generated"
        regular, harder = mathematics.module_names("interpolate"), mathematics.module_names("extrapolate")
    else:
        path = Path(source).expanduser()
        read, origin = functools.partial(mathematics.read_official, path), f"DeepMind Mathematics, {path.name}"
        names = mathematics.official_names(path)
        regular, harder = names.get("interpolate", ()), names.get("extrapolate", ())
    pairs: dict[str, list[mathematics.Pair]] = {}
    used: set[str] = set()
    for name, at in levels.items():
        pairs[name] = read(modules, at, sizes[name], seed=f"{seed} {name}", exclude=used)
        used.update(question for question, _ in pairs[name])
    continued = mathematics.extrapolating(modules, regular, harder)
    pairs["extrapolate"] = (
        read(continued, ("extrapolate",), sizes["test"], seed=f"{seed} extrapolate", exclude=used) if continued else []
    )
    examples = {name: tuple(Example(question + "\n", answer) for question, answer in pairs[name]) for name in SPLITS}
    return Splits(**examples, source=f"{origin}: {', '.join(modules)}; seed {seed}")


def _table(
    source: str, path: Path, sizes: Mapping[str, int], seed: int, columns: tuple[str, str] | None, resplit: bool
) -> Splits:
    """Splits of a data set with columns."""
    pools = _pools(source, path, columns)
    if "train" not in pools:
        raise ValueError(f"{source} has no train split, only {', '.join(pools)}")
    if resplit:
        pools = {"train": pools["train"]}
    chosen: dict[str, tuple[Example, ...]] = {}
    used: set[str] = set()
    for name in ("test", "validation", "train"):
        own = name if name in pools else "train"
        pool = [e for e in dict.fromkeys(pools[own]) if e.prompt not in used]
        if len(pool) < sizes[name]:
            raise ValueError(
                f"{source} has {len(pool)} different examples left for {name} in its {own} split, not {sizes[name]}; "
                "ask for fewer"
            )
        random.Random(f"{seed} {name}").shuffle(pool)
        chosen[name] = tuple(pool[: sizes[name]])
        used.update(e.prompt for e in chosen[name])
    return Splits(**chosen, extrapolate=(), source=f"{source}; seed {seed}")


def _pools(source: str, path: Path, columns: tuple[str, str] | None) -> dict[str, list[Example]]:
    """All examples by split."""
    import datasets

    if not path.exists() and (source.startswith((".", "/", "~")) or path.suffix in FORMATS):
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_file() and path.suffix not in FORMATS:
        raise ValueError(
            f"{path} must be one of {', '.join(FORMATS)}, a folder of such files or a .tar.gz of DeepMind's"
        )
    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if path.exists():
            options["cache_dir"] = stack.enter_context(tempfile.TemporaryDirectory())
        if path.is_file():
            arguments: tuple[Any, ...] = (FORMATS[path.suffix],)
            options["data_files"] = str(path)
        else:
            name, _, configuration = (str(path), "", "") if path.is_dir() else source.partition(":")
            arguments = (name, configuration or None)
        try:
            table = datasets.load_dataset(*arguments, **options)
        except (ConnectionError, FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
            if path.exists():
                raise ValueError(f"cannot read {path}: {_first_line(error)}") from None
            raise OSError(
                f"cannot load the data set {source}: no such file or folder, and the hub is not reachable or does "
                f"not have it; download it elsewhere and name its folder ({_first_line(error)})"
            ) from None
        except (datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
            raise ValueError(f"cannot read the data set {source}: {_first_line(error.__cause__ or error)}") from None
        splits = {
            name: table[alias] for name, aliases in ALIASES.items() for alias in reversed(aliases) if alias in table
        }
        return {name: _examples(split, source, columns) for name, split in splits.items()}


def _examples(table: Any, source: str, columns: tuple[str, str] | None) -> list[Example]:
    names = table.column_names
    if columns and any("{" in text for text in columns):
        return _filled(table, source, columns)
    choices = [columns] if columns else [("prompt", "completion"), ("question", "answer")]
    found = next((pair for pair in choices if set(pair) <= set(names)), None)
    if found is None:
        wanted = " or ".join(f"{prompt} and {completion}" for prompt, completion in choices)
        raise ValueError(f"{source} has the columns {', '.join(names)}, not {wanted}; name the two to use")
    joint = "\n" if columns is None and found == ("question", "answer") else ""
    rows: Iterable[tuple[Any, Any]] = zip(table[found[0]], table[found[1]], strict=True)
    examples = []
    for prompt, completion in rows:
        if (
            prompt is None
            or completion is None
            or isinstance(prompt, list | dict)
            or isinstance(completion, list | dict)
        ):
            raise ValueError(f"{source} has rows whose {found[0]} or {found[1]} is no text")
        examples.append(Example(f"{prompt}{joint}", str(completion)))
    return examples


def _filled(table: Any, source: str, templates: tuple[str, str]) -> list[Example]:
    """Examples whose texts are made of several columns."""
    fields = {field for text in templates for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    missing = sorted(fields - set(table.column_names))
    if missing:
        raise ValueError(f"{source} has the columns {', '.join(table.column_names)}, not {', '.join(missing)}")
    examples = []
    for values in zip(*(table[field] for field in fields), strict=True):
        if any(value is None or isinstance(value, list | dict) for value in values):
            raise ValueError(f"{source} has rows where one of {', '.join(sorted(fields))} is no text")
        row = dict(zip(fields, values, strict=True))
        examples.append(Example(templates[0].format_map(row), templates[1].format_map(row)))
    return examples


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
