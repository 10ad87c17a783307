"""What all command lines share: one clear line and exit code 2 when something is wrong."""

import sys

import typer
from rich.console import Console

from lorakappa.shared.extras import advice
from lorakappa.shared.renamed import now_called

PIPE_WIDTH = 120
"""Columns of a table that goes to a file or a pipe, where no terminal says how wide it is."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
errors = Console(stderr=True, highlight=False)


def new_app(help: str) -> typer.Typer:
    """An empty Typer application with the project's settings."""
    return typer.Typer(help=help, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def run(app: typer.Typer) -> None:
    """Runs a command line and exits.

    Exit codes: the command's own; 2 with one line `error: …` for wrong usage, bad values (ValueError,
    TypeError), files that cannot be read or written (OSError) and packages that are not installed; 130 on Ctrl-C.
    """
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message:
            fail(message + now_called(error))
        code = getattr(error, "exit_code", 2)
    except ModuleNotFoundError as error:
        if (hint := advice(error)) is None:
            raise
        fail(str(error) if hint in str(error) else f"this {hint}")
    except (ValueError, TypeError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(code or 0)


def fail(message: str) -> None:
    """Prints `error: message` as one line on stderr and exits with code 2."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
