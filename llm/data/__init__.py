"""What fine-tunes start from: prompts and completions, and causal language models, a tiny one included."""
