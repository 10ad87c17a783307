"""`python -m lorakappa.synthetic`, and `python -m synthetic` in a checkout."""

from lorakappa.shared.command_line import run
from lorakappa.synthetic.command import app

if __name__ == "__main__":
    run(app)
