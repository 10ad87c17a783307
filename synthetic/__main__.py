"""`python -m lorakappa.synthetic`, and `python -m synthetic` in a checkout."""

from lorakappa.synthetic.command import app
from lorakappa.shared.command_line import run

if __name__ == "__main__":
    run(app)
