"""The vocabulary of methods: what simulator, fine-tunes and figures call them, and what can be set behind a name.

Nothing is computed here. What a method does is attached to its name by `lorakappa.synthetic.methods` (simulator) and
`lorakappa.llm.comparison.methods` (fine-tunes); how it looks, by `lorakappa.figures.style`. A test holds them to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import inf
from typing import Final, Literal

from lorakappa.shared.extras import EXTRAS
from lorakappa.shared.method_names import MethodName, Option, take_apart, with_option

Package = Literal["synthetic", "llm"]
"""The simulator and the fine-tunes."""

BOTH: Final[tuple[Package, ...]] = ("synthetic", "llm")
FINE_TUNES: Final[tuple[Package, ...]] = ("llm",)
SIMULATION: Final[tuple[Package, ...]] = ("synthetic",)

OURS, PEFTS, MIXED = "this project", "PEFT", "PEFT and this project"

SOURCE_PACKAGES: Final = {"pytorch_optimizer": "pytorch_optimizer"}
"""By source: the package to import, where the extra that brings fine-tunes does not bring it."""


@dataclass(frozen=True)
class Difference:
    """In what the packages differ about an option.

    Attributes:
        defaults: by package; one that is not listed has no such option.
        reason: why.
    """

    defaults: Mapping[Package, float | str]
    reason: str


DIFFERENCES: Final[dict[str, Difference]] = {
    "damping": Difference(
        {"synthetic": 1e-6, "llm": 1e-2},
        "exact gradients of small losses need it only where A = 0 and take the value of Riemannian preconditioned "
        "LoRA; fine-tunes have PEFT's optimizer and keep its default",
    ),
    "moments": Difference(
        {"llm": "keep"}, "the simulator always keeps Adam's moments as they are, which is the default of fine-tunes"
    ),
    "decay": Difference(
        {"synthetic": 0.9, "llm": 0.99},
        "a simulation is over after 100 steps, so that a longer memory would be of its start",
    ),
    "mode": Difference(
        {"synthetic": "matrix"},
        "the number of RefLoRA-S is reflora-scalar in fine-tunes, which moves the factors since Adam would take it out "
        "of the gradients again",
    ),
}
"""By option: all that the simulator and the fine-tunes do not have in common."""

STRENGTH: Final = {"lambda": Option(1.0, "λ of the penalty λ‖BBᵀ − cAᵀA‖²")}
PENALTY: Final = {
    **STRENGTH,
    "factor": Option(1.0, "multiple of the ratio: c = factor·(r/m)^power, m rows of A", formerly="scale"),
    "power": Option(1.0, "exponent of the ratio; with 0 and factor 1 it is that of balance", low=-inf, high=50.0),
    "trained": Option("no", "whether the ratio c is trained from there on", words=("no", "yes"), formerly="ratio"),
}
DAMPING: Final = {
    "damping": Option(
        DIFFERENCES["damping"].defaults["synthetic"], "δ added to the Gram matrices that are inverted", closed=True
    )
}
FISHER: Final = {
    "delta": Option(0.1, "δ of the damping towards balance"),
    "decay": Option(0.99, "of the running means of the gradients' second moments", closed=True, high=0.999999),
    "gauge": Option(
        "symmetric", "which of the pairs with equal second moments", words=("symmetric", "hyperbalanced", "nearest")
    ),
}
LR_RATIO: Final = {"lr-ratio": Option(16.0, "learning rate of A in units of that of B", formerly="ratio")}
MODE: Final = {
    "mode": Option("matrix", "S of the gradients g_A S⁻¹ and S g_B: a matrix or a number", words=("matrix", "scalar"))
}
MOMENTS: Final = {
    "moments": Option("keep", "what a projection does to AdamW's moments", words=("keep", "transport", "reset"))
}


@dataclass(frozen=True)
class Description:
    """What is to be known about a method without running it.

    Attributes:
        label: its name in legends.
        summary: one line.
        source: whose implementation the fine-tunes use.
        packages: where it exists.
        has_map: whether a map follows the step; only then does @K mean something.
        defined: its options in any package; those of one package are `options`.
    """

    label: str
    summary: str
    source: str = PEFTS
    packages: tuple[Package, ...] = BOTH
    has_map: bool = False
    defined: Mapping[str, Option] = field(default_factory=dict)

    def options(self, package: Package) -> dict[str, Option]:
        """The options that it has in a package, with the defaults there (`DIFFERENCES`)."""
        found = {}
        for key, option in self.defined.items():
            defaults = DIFFERENCES[key].defaults if key in DIFFERENCES else {package: option.default}
            if package in defaults:
                found[key] = replace(option, default=defaults[package])
        return found

    def show_options(self, package: Package) -> str:
        """These options and their defaults, as one writes them."""
        defaults = {key: option.default for key, option in self.options(package).items()}
        return ", ".join(f"{key}={v}" if isinstance(v, str) else f"{key}={v:g}" for key, v in defaults.items())


VOCABULARY: Final[dict[str, Description]] = {
    "lora": Description("LoRA", "LoRA: B random and A = 0 at the start"),
    "balora": Description(
        "BaLoRA", "BaLoRA: P after every step, the paper's gauge", OURS, has_map=True, defined=MOMENTS
    ),
    "balora-symmetric": Description(
        "BaLoRA, symmetric gauge", "BaLoRA, the symmetric gauge", OURS, has_map=True, defined=MOMENTS
    ),
    "balora-nearest": Description(
        "BaLoRA, nearest gauge", "BaLoRA, the nearest balanced pair", OURS, has_map=True, defined=MOMENTS
    ),
    "balora-data": Description(
        "BaLoRA, data's gauge",
        "the gauge of the smallest trace, the loss itself saying where it is",
        OURS,
        packages=SIMULATION,
        has_map=True,
    ),
    "balora-fisher": Description(
        "BaLoRA, Fisher gauge",
        "the gauge that second moments of the gradients ask for, damped towards balance",
        OURS,
        has_map=True,
        defined={**FISHER, **MOMENTS},
    ),
    "rslora": Description("rsLoRA", "rank-stabilized LoRA: scaling α/√r", packages=FINE_TUNES),
    "dora": Description("DoRA", "DoRA: magnitude and direction apart", packages=FINE_TUNES),
    "olora": Description("OLoRA", "OLoRA: orthonormal start from the base weights", packages=FINE_TUNES),
    "pissa": Description("PiSSA", "PiSSA: start from the base weights' leading part", packages=FINE_TUNES),
    "lora-ga": Description("LoRA-GA", "LoRA-GA: start from the first gradient", packages=FINE_TUNES),
    "balora-ga": Description(
        "BaLoRA-GA",
        "BaLoRA from LoRA-GA's start",
        MIXED,
        packages=FINE_TUNES,
        has_map=True,
        defined=MOMENTS,
    ),
    "lora-plus": Description("LoRA+", "LoRA+: A learns `lr-ratio` times faster", defined=LR_RATIO),
    "reflora": Description("RefLoRA", "RefLoRA: gradients g_A S⁻¹ and S g_B, S = (AᵀA)⁻¹ # (BBᵀ)", OURS, defined=MODE),
    "reflora-scalar": Description(
        "RefLoRA-S", "RefLoRA-S: ‖A‖ = ‖B‖ after every step", OURS, packages=FINE_TUNES, has_map=True
    ),
    "lora-rite": Description(
        "LoRA-RITE",
        "LoRA-RITE: moments kept in the orthonormal bases of the factors",
        "pytorch_optimizer",
        packages=FINE_TUNES,
    ),
    "scaled-gd": Description(
        "ScaledGD / preconditioned", "Riemannian preconditioning (ScaledGD, Scaled AdamW)", defined=DAMPING
    ),
    "ilora": Description("iLoRA", "iLoRA: penalty λ‖BBᵀ − (r/m)AᵀA‖²", OURS, has_map=True, defined=PENALTY),
    "pilora": Description(
        "πLoRA",
        "πLoRA: Riemannian preconditioning, then iLoRA's penalty step",
        MIXED,
        has_map=True,
        defined={**PENALTY, **DAMPING},
    ),
    "ilora-balanced": Description(
        "iLoRA, balanced",
        "iLoRA's penalty at ratio 1, the classical balancing regularizer",
        OURS,
        has_map=True,
        defined=STRENGTH,
    ),
    "balora-scaled-gd": Description(
        "BaLoRA + ScaledGD",
        "BaLoRA with Riemannian preconditioning",
        MIXED,
        has_map=True,
        defined={**MOMENTS, **DAMPING},
    ),
    "balora-plus": Description(
        "BaLoRA+", "BaLoRA with LoRA+'s learning rates", MIXED, has_map=True, defined={**MOMENTS, **LR_RATIO}
    ),
}
"""Every method by name."""


def names(package: Package) -> list[str]:
    """The methods that exist in a package."""
    return [name for name, known in VOCABULARY.items() if package in known.packages]


def parse_method_name(name: str, package: Package) -> MethodName:
    """Takes NAME[:KEY=VALUE,…][@K] apart.

    Args:
        name: as typed.
        package: whose methods, options and defaults count.

    Returns:
        The parts.

    Raises:
        ValueError: on an unknown name or option, a value out of its range, or a K that is not a positive integer or
            that means nothing because the method has no map after the step.
    """
    found = take_apart(name, {base: VOCABULARY[base].options(package) for base in names(package)})
    if "@" in name and not VOCABULARY[found.base].has_map:
        raise ValueError(f"{name!r}: {found.base} does nothing after a step that @{found.every} could make rarer")
    return found


def needed_packages(name: str) -> list[str]:
    """The packages, by the name they are imported under, that a method of fine-tunes needs beside those of all.

    Raises:
        ValueError: as `parse_method_name`.
    """
    source = VOCABULARY[parse_method_name(name, "llm").base].source
    return [SOURCE_PACKAGES[source]] if source in SOURCE_PACKAGES else []


def check_installed(names: Sequence[str]) -> None:
    """Refuses methods of fine-tunes whose package is not there.

    Args:
        names: as for `parse_method_name`.

    Raises:
        ValueError: naming the package and the extra that brings it.
    """
    for name in names:
        for package in needed_packages(name):
            if find_spec(package) is None:
                raise ValueError(f"{name} needs {package}: pip install 'lorakappa[{EXTRAS[package]}]'")


def at_strengths(name: str, strengths: Sequence[float], package: Package) -> list[str]:
    """The method at every λ, if it has a λ that its name leaves open; else, or without any λ, the name alone.

    Args:
        name: as for `parse_method_name`.
        strengths: the λ.
        package: likewise.

    Raises:
        ValueError: on a wrong name, or a λ that is not positive and finite.
    """
    found = parse_method_name(name, package)
    if "lambda" not in found.options or "lambda" in found.given or not strengths:
        return [name]
    variants = [with_option(name, "lambda", strength) for strength in strengths]
    for variant in variants:
        parse_method_name(variant, package)
    return variants


def check_strengths_used(names: Sequence[str], package: Package) -> None:
    """Refuses λ that were asked for and that no method could take.

    Args:
        names: as for `parse_method_name`.
        package: likewise.

    Raises:
        ValueError: if no method has a λ that its name leaves open.
    """
    if all(at_strengths(name, (1.0,), package) == [name] for name in names):
        raise ValueError(f"--lambdas has no effect: none of {', '.join(names)} has a λ that its name leaves open")


def differences() -> list[str]:
    """One sentence per option that the packages do not have in common, for tables and pages."""
    sentences = []
    for key, difference in DIFFERENCES.items():
        values = [f"{v if isinstance(v, str) else f'{v:g}'} in {name}" for name, v in difference.defaults.items()]
        text = " and ".join(values) if len(values) > 1 else f"{values[0]} only"
        sentences.append(f"{key} is {text}: {difference.reason}")
    return sentences
