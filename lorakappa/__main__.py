"""The command `lorakappa`, also as `python -m lorakappa`."""

from lorakappa.shared.command_line import new_app, run


def main() -> None:
    """Runs the command line."""
    run(new_app("to come"))


if __name__ == "__main__":
    main()
