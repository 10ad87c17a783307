"""`python -m lorakappa.figures`, and `python -m figures` in a checkout."""

from lorakappa.figures.command import app
from lorakappa.shared.command_line import run

if __name__ == "__main__":
    run(app)
