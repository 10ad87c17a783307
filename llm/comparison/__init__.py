"""Methods against each other on one model: every method at its own best setting, over paired seeds."""
