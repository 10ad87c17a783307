"""The static claims of the theory, by id: one file per topic, proofs or counterexamples in the docstrings.

A claim is a function that compares two sides at an instance, decorated by `verification.algebraic_claim`; adding
one means writing that function and naming it in its file's CLAIMS.
"""

from lorakappa.conditioning.claims import imbalance, model1, model2, preconditioning, projection
from lorakappa.conditioning.verification import registry

CLAIMS = registry(model1.CLAIMS, model2.CLAIMS, projection.CLAIMS, imbalance.CLAIMS, preconditioning.CLAIMS)
