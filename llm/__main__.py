"""`python -m lorakappa.llm`, and `python -m llm` in a checkout."""

from lorakappa.llm.command import app
from lorakappa.shared.command_line import run

if __name__ == "__main__":
    run(app)
