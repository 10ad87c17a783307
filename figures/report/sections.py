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
        "fine-tunes",
        "What of it is seen in a language model?",
        "Methods at their own best learning rates over paired seeds, effects with intervals, each in a setting stated.",
        ("llm-balora-loss", "llm-balora-robust-lr", "llm-overhead-time", "llm-overhead-memory", "llm-balora-ilora"),
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
        ("trace-optimal-gauge", "largest-eigenvalue-certificate", "weighted-balanced-optimal"),
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
