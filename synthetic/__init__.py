"""Dynamics: simulated LoRA and BaLoRA training on small losses, and measured rates against the bounds."""
