"""`python -m lorakappa.conditioning`, and `python -m conditioning` in a checkout."""

from lorakappa.conditioning.command import app
from lorakappa.shared.command_line import run

if __name__ == "__main__":
    run(app)
