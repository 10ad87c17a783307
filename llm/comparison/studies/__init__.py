"""Studies: comparisons with power, from a file that says what is compared to the evidence that is kept.

What is chosen (learning rate, scaling, λ) is chosen on selection seeds; the effects are measured on fresh ones.
"""
