"""Documents beside the poster whose statements are claims here."""

ILORA = "Imbalance-Regularized LoRA, our reading of {}; the text was not at hand"
"""We had the abstract, the algorithms and the subjects of the theorems, not their text."""

SCALED_GD = "ScaledGD (Tong, Ma & Chi 2021), in the setting of Model 1"
