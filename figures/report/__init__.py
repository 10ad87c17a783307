"""The report: verdicts with their grounds, the map of the sources, figures and records on one page made of results."""
