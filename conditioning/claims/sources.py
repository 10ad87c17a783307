"""Documents beside the poster whose statements are claims here."""

ILORA = "Imbalance-Regularized LoRA, our reading of {}; the text was not at hand"
"""We had the abstract, the algorithms and the subjects of the theorems, not their text."""

SCALED_GD = "ScaledGD (Tong, Ma & Chi 2021), in the setting of Model 1"

FULL_TEXT = "Balanced LoRA, the paper's full text as notes of third parties report it"
"""The text itself was not at hand."""

REVIEW = "machine-written review of Balanced LoRA, the answer that it gives the authors"
"""The answers are not the authors' own."""
