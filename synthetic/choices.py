"""What can be chosen by name; nothing is computed here, so that a command line can show it at once."""

LOSSES = ("one-layer", "two-layer", "mlp", "weighted")
TARGETS = ("gaussian", "linear", "geometric:RATIO", "power-law:EXPONENT", "FILE")
SPECTRA = ("geometric", "power-law")
"""Kinds of target with one parameter, over which maps are drawn."""
STARTS = ("lora", "gaussian", "balanced", "imbalanced:RATIO")
ALIGNMENTS = ("random", "crossed")
"""Singular vectors of weights: random, or those of the target, strong in C where weak in D."""
OPTIMIZERS = ("gd", "sign-gd", "sign", "adam")
TRAINED = ("gd", "sgd", "adam")
"""What gauges are compared under: gradient descent, the same with noisy labels, and Adam."""
CRITERIA = ("final", "area", "threshold")
"""What a step size is chosen by."""
TUNING = ("shared", "per-seed")
"""One best step size for all seeds, or one for each."""
RULES = ("gd", "sign-gd", "sign-gd-sharp", "balora-gd", "sign-gd-exact")
"""Measured rates: GD with γ = 2/(L + μ); sign-GD with γ = 1/(dL), with γ = 1/L_∞ by certificates, and with L_∞ and μ_∞
exact, for few parameters; BaLoRA with the γ of GD at κ_bal."""
