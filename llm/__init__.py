"""Real fine-tunes and adapters: not built yet."""
