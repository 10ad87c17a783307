"""How the page is arranged: which claims and figures belong together, under which question."""

from dataclasses import dataclass

KEY_CLAIMS = (
    "balanced-optimal-model1",
    "model1-upper-bound",
    "balanced-optimal-model2",
    "projection-literal-trains-on",
    "gd-rate",
    "balora-beats-lora-gd",
    "balora-beats-lora-adam",
    "ilora-scaled-gd-proportion",
    "ilora-ratio-optimal",
    "reflora-equals-balora-gd",
    "trace-optimal-gauge",
    "ilora-table-2-average",
    "balance-helps-weighted-gd",
    "llm-balora-loss",
)
"""The claims by which the page answers what was checked, before the table of all."""


@dataclass(frozen=True)
class Section:
    """A part of the page with figures.

    Attributes:
        id: anchor.
        title: heading.
        text: what is asked, in a sentence or two.
        claims: ids whose verdicts are listed there.
        figures: names (`figures.catalogue.FIGURES`).
    """

    id: str
    title: str
    text: str
    claims: tuple[str, ...]
    figures: tuple[str, ...]


SECTIONS = (
    Section(
        "geometry",
        "Which minimizers are well conditioned?",
        "The pairs with one product form a manifold; κ differs along it, and P moves along it to a balanced pair.",
        ("balanced-optimal-model1", "balanced-unique", "kappa-spread", "model1-exact-spectrum"),
        ("manifold", "kappa-histogram", "bound-tightness"),
    ),
    Section(
        "projection",
        "What does P keep, and what does it lose?",
        "P goes to a balanced pair with the same product; not every property that one may expect of it holds.",
        (
            "projection-preserves-product",
            "projection-first-order",
            "projection-retraction",
            "projection-nearest",
            "projection-keeps-gradient-step",
            "projection-reachable-set",
            "projection-literal-trains-on",
            "projection-trains-on",
        ),
        (),
    ),
    Section(
        "networks",
        "And behind a network, or with several adapters?",
        "In Model 2 the network's derivative J comes between; several adapters share one κ.",
        (
            "model2-upper-bound",
            "model2-upper-bound-tangent",
            "balanced-optimal-model2",
            "balanced-optimal-model2-bound",
            "adapters-upper-bound",
            "adapters-balance-is-all",
            "adapters-scales",
        ),
        (),
    ),
    Section(
        "dynamics",
        "What does κ decide of training?",
        "Measured rates against the bounds, curves at each method's best step size, and where BaLoRA gains.",
        (
            "gd-rate",
            "gd-rate-tight",
            "sign-gd-rate-exact",
            "balora-rate",
            "balora-beats-lora-gd",
            "balora-beats-lora-adam",
            "same-kappa-same-curve",
        ),
        ("convergence", "rates", "phase", "settle"),
    ),
    Section(
        "equivalence",
        "Which methods are the same?",
        "Methods whose adapted matrices take the same path, and which of them see the gauge of their start.",
        (
            "reflora-equals-balora-gd",
            "intrinsic-gd",
            "adam-scale",
            "gauge-free-scaled-gd",
            "gauge-free-lora-gd",
            "gauge-free-lora-adam",
            "gauge-free-after-projection",
            "scaled-gd-makes-balance-idle",
        ),
        (),
    ),
    Section(
        "data",
        "When does balancing help, and through what?",
        "Ill-conditioned data, the noise of SGD and the coordinates of Adam's moments, told apart.",
        (
            "balance-helps-weighted-gd",
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
        (
            "balora-versus-ilora",
            "balora-versus-ilora-adam",
            "ilora-prefers-balance",
            "ilora-ratio-cost-upper",
            "pilora-beats-preconditioned",
        ),
        ("duel", "ratios"),
    ),
    Section(
        "variances",
        "Does iLoRA's ratio follow from its theory?",
        "The paper derives the ratio from variances at the start, and keeps it by scaled gradients and a penalty.",
        (
            "ilora-forward-variance",
            "ilora-gram-ratio",
            "ilora-entry-variances-suffice",
            "ilora-penalty-fixes-variance",
            "ilora-scaled-gd-proportion",
            "lora-plus-keeps-proportion",
            "ilora-gradient",
            "ilora-restricts-freedom",
            "pilora-defined-at-start",
            "ilora-keeps-ratio",
        ),
        (),
    ),
    Section(
        "tables",
        "Do iLoRA's sentences agree with its printed tables?",
        "Averages, differences and comparisons, computed again from the scores that the paper prints.",
        (
            "ilora-table-2-average",
            "ilora-table-2-average-corrected",
            "ilora-table-2-all-tasks",
            "ilora-table-4-all-metrics",
            "ilora-table-7-largest-gains",
            "ilora-table-10-highest",
        ),
        (),
    ),
    Section(
        "fine-tunes",
        "What of it is seen in a language model?",
        "Methods at their own best learning rates over paired seeds, effects with intervals, each in a setting stated.",
        (
            "llm-balora-loss",
            "llm-balora-robust-lr",
            "llm-overhead-time",
            "llm-overhead-memory",
            "llm-balora-ilora",
            "llm-runs-repeat",
        ),
        (
            "study-effects",
            "study-growth",
            "study-starts",
            "loss-by-rank",
            "robustness",
            "learning-curves",
            "conditioning-curves",
            "learning-rate-maps",
            "overhead",
        ),
    ),
    Section(
        "curvature",
        "What does balance change in a real loss, and which gauge is the best?",
        "The exact curvature of single layers of a trained adapter, in the gauges that can be chosen.",
        (
            "trace-optimal-gauge",
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
        ("overhead-per-step", "ilora-overhead"),
        ("benchmarks",),
    ),
)
