"""How the page is arranged: which claims and figures belong together, under which question."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A part of the page with figures.

    Attributes:
        id: anchor.
        title: heading.
        text: what is asked, in a sentence or two.
        answers: ids of claims by which the page answers the question on top of it.
        claims: ids whose verdicts are listed there, after those.
        figures: names (`figures.catalogue.FIGURES`).
        parts: sections within it, each with a heading of its own.
    """

    id: str
    title: str
    text: str
    answers: tuple[str, ...]
    claims: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    parts: tuple["Section", ...] = ()


SECTIONS = (
    Section(
        "geometry",
        "Which minimizers are well conditioned?",
        "The pairs with one product form a manifold; κ differs along it, and P moves along it to a balanced pair.",
        ("balanced-optimal-model1", "model1-upper-bound"),
        ("balanced-unique", "kappa-spread", "model1-exact-spectrum"),
        ("manifold", "kappa-histogram", "bound-tightness"),
    ),
    Section(
        "projection",
        "What does P keep, and what does it lose?",
        "P goes to a balanced pair with the same product; not every property that one may expect of it holds.",
        ("projection-literal-trains-on",),
        (
            "projection-preserves-product",
            "projection-first-order",
            "projection-retraction",
            "projection-nearest",
            "projection-keeps-gradient-step",
            "projection-reachable-set",
            "projection-trains-on",
        ),
    ),
    Section(
        "networks",
        "And behind a network, or with several adapters?",
        "In Model 2 the network's derivative J comes between; several adapters share one κ.",
        ("balanced-optimal-model2",),
        (
            "model2-upper-bound",
            "model2-upper-bound-tangent",
            "balanced-optimal-model2-bound",
            "adapters-upper-bound",
            "adapters-balance-is-all",
            "adapters-scales",
        ),
    ),
    Section(
        "dynamics",
        "What does κ decide of training?",
        "Measured rates against the bounds, curves at each method's best step size, and where BaLoRA gains.",
        ("gd-rate", "balora-beats-lora-gd", "balora-beats-lora-adam"),
        ("gd-rate-tight", "sign-gd-rate-exact", "balora-rate", "same-kappa-same-curve"),
        ("convergence", "rates", "phase", "settle"),
    ),
    Section(
        "equivalence",
        "Which methods are the same?",
        "Methods whose adapted matrices take the same path, and which of them see the gauge of their start.",
        ("reflora-equals-balora-gd",),
        (
            "intrinsic-gd",
            "adam-scale",
            "gauge-free-scaled-gd",
            "gauge-free-lora-gd",
            "gauge-free-lora-adam",
            "gauge-free-after-projection",
            "scaled-gd-makes-balance-idle",
        ),
    ),
    Section(
        "data",
        "When does balancing help, and through what?",
        "Ill-conditioned data, the noise of SGD and the coordinates of Adam's moments, told apart.",
        ("balance-helps-weighted-gd",),
        (
            "data-gauge-beats-balance-gd",
            "data-gauge-beats-balance-sgd-uneven",
            "fisher-gauge-finds-the-data",
            "fisher-smallest-trace",
            "sgd-noise-floor-lowest",
            "adam-balance-without-entries",
            "adam-frame-fixed",
            "adam-turned-momentum",
        ),
        ("gauges",),
    ),
    Section(
        "rivals",
        "Balance, or iLoRA's ratio?",
        "iLoRA keeps BBᵀ = (r/m)AᵀA by a penalty, where BaLoRA keeps AᵀA = BBᵀ.",
        ("balora-versus-ilora", "balora-versus-ilora-adam", "ilora-ratio-optimal"),
        ("ilora-prefers-balance", "ilora-ratio-cost-upper", "pilora-beats-preconditioned"),
        ("duel", "ratios"),
    ),
    Section(
        "variances",
        "Does iLoRA's ratio follow from its theory?",
        "The paper derives the ratio from variances at the start, and keeps it by scaled gradients and a penalty.",
        ("ilora-scaled-gd-proportion",),
        (
            "ilora-forward-variance",
            "ilora-gram-ratio",
            "ilora-entry-variances-suffice",
            "ilora-penalty-fixes-variance",
            "lora-plus-keeps-proportion",
            "ilora-gradient",
            "ilora-restricts-freedom",
            "pilora-defined-at-start",
            "ilora-keeps-ratio",
        ),
    ),
    Section(
        "tables",
        "Do iLoRA's sentences agree with its printed tables?",
        "Averages, differences and comparisons, computed again from the scores that the paper prints.",
        ("ilora-table-2-average",),
        (
            "ilora-table-2-average-corrected",
            "ilora-table-2-all-tasks",
            "ilora-table-4-all-metrics",
            "ilora-table-7-largest-gains",
            "ilora-table-10-highest",
        ),
    ),
    Section(
        "fine-tunes",
        "What of it is seen in a language model?",
        "Methods at their own best learning rates over paired seeds, effects with intervals, each in a setting stated.",
        ("llm-balora-loss", "llm-balora-ilora"),
        ("llm-ilora-loss", "llm-pilora-loss", "llm-pilora-preconditioned"),
        ("study-effects",),
        (
            Section(
                "start-size",
                "Is BaLoRA's gain a matter of the size of the start?",
                "α/r scales the start at a fixed effective learning rate; then it is tuned for each method.",
                ("llm-balora-start", "llm-balora-best-start"),
                figures=("study-starts",),
            ),
            Section(
                "rank-and-horizon",
                "Does it show at a higher rank, or in a longer run?",
                "Ranks, and horizons that are runs of their own, each with its schedule and its learning rate.",
                ("llm-balora-rank", "llm-balora-horizon"),
                ("llm-balora-larger-ranks", "llm-converges-faster", "llm-converges-faster-time"),
                ("study-growth", "loss-by-rank", "learning-curves", "conditioning-curves"),
            ),
            Section(
                "learning-rate",
                "Is it more robust to the learning rate?",
                "Losses at twice each method's own best rate, on fresh seeds; grids of the seeds that chose it.",
                ("llm-balora-twice-the-rate",),
                ("llm-balora-robust-lr",),
                figures=("robustness", "learning-rate-maps"),
            ),
            Section(
                "variants",
                "And under SGD, with other gauges, or with P now and then?",
                "Each beside what differs from it in nothing else.",
                ("llm-balora-sgd",),
                ("llm-fisher-balora", "llm-balora-period"),
            ),
            Section(
                "costs",
                "What does it cost, and do the runs repeat?",
                "Share of a step and peak memory; and runs on record, made again.",
                ("llm-overhead-time",),
                ("llm-overhead-memory", "llm-ilora-overhead-time", "llm-runs-repeat"),
                ("overhead",),
            ),
        ),
    ),
    Section(
        "curvature",
        "What does balance change in a real loss, and which gauge is the best?",
        "The exact curvature of single layers of a trained adapter, in the gauges that can be chosen.",
        ("trace-optimal-gauge",),
        (
            "largest-eigenvalue-certificate",
            "gauge-norms-log-convex",
            "weighted-balanced-optimal",
            "weighted-smallest-trace",
        ),
        ("curvature", "audit"),
    ),
    Section(
        "performance",
        "How fast is it?",
        "Ratios to named peers within one run on one machine.",
        (),
        ("overhead-per-step", "ilora-overhead"),
        ("benchmarks",),
    ),
)


def all_sections() -> Iterator[Section]:
    """The sections, each before the parts of it."""
    for section in SECTIONS:
        yield section
        yield from section.parts


def figures_shown() -> list[str]:
    """Names of all figures, in the order in which they are shown."""
    return [name for section in all_sections() for name in section.figures]
