"""What all command lines share: one clear line and exit code 2 when something is wrong, and what is printed how.

Names of layers, methods and files are data: nothing printed on these consoles is read as markup, and characters that
would steer the terminal are shown rather than sent.
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment
from rich.text import Text

from lorakappa.shared.extras import advice
from lorakappa.shared.failures import BUG, foreseeable, keep_traceback, one_line, printable
from lorakappa.shared.renamed import now_called

PIPE_WIDTH = 120
"""Columns of a table that goes to a file or a pipe, where neither a terminal nor COLUMNS says how wide it is."""

WIDEST = 10**6
"""Most columns or lines that the environment may ask for."""

BROKEN_PIPE = 141
"""Exit code when whoever reads the output has stopped, as if by the signal SIGPIPE."""


class _BrokenPipeError(Exception):
    """Nobody reads the output any more."""


class PlainConsole(Console):
    """A console on which text is just text: no markup, no emoji, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text as it is, in tables too; styles come with `rich.text.Text`."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})

    def on_broken_pipe(self) -> None:
        """Ends the command where Rich would end the process, with the exit code of a failed verdict."""
        raise _BrokenPipeError


@dataclass(frozen=True)
class _Trimmed:
    """Something printable without the blanks that fill its lines."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in Segment.split_lines(console.render(self.content, options)):
            while line and not line[-1].text.strip(" "):
                line.pop()
            if line:
                *most, last = line
                yield from most
                yield Segment(last.text.rstrip(" "), last.style, last.control)
            yield Segment.line()


class _Trimming(RenderHook):
    """Prints every line without the blanks at its end, which files and pipes have no use for."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Trimmed(renderable) for renderable in renderables]


def _forget_odd_sizes() -> None:
    """Takes a COLUMNS or LINES that is no number of a size to print at out of the environment.

    Rich, and Typer with it, asks `str.isdigit` only, fails at "²" and at more digits than Python reads, and fills lines
    up to any length.
    """
    for name in ("COLUMNS", "LINES"):
        text = os.environ.get(name, "")
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) <= WIDEST):
            os.environ.pop(name, None)


def _standard_output() -> PlainConsole:
    """A console as wide as the terminal, COLUMNS or, without either, `PIPE_WIDTH`."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    told = terminal or "COLUMNS" in os.environ
    made = PlainConsole(highlight=False, markup=False, emoji=False, width=None if told else PIPE_WIDTH)
    if not terminal:
        made.push_render_hook(_Trimming())
    return made


_forget_odd_sizes()
console = _standard_output()
errors = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)


def say(*values: object) -> None:
    """Prints a line, whatever its length, on stdout: for names of files, which must not be broken."""
    console.print(*map(str, values), soft_wrap=True)


def note(message: str) -> None:
    """Prints one line on stderr: what does not make the command fail."""
    print(one_line(message), file=sys.stderr, flush=True)


def new_app(help: str) -> typer.Typer:
    """An empty Typer application with the project's settings."""
    return typer.Typer(help=help, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def run(app: typer.Typer) -> None:
    """Runs a command line and exits.

    Exit codes: the command's own; 2 with one line `error: …` for what can be foreseen (wrong usage, bad values, files
    that cannot be read or written, too little memory, packages that are not installed: `failures.foreseeable`); 70,
    with the traceback in a file, for anything else, which is a bug; 130 on Ctrl-C; 141 if nobody reads the output.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # κ where the terminal has no such letter
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message:
            fail(message + now_called(error))
        code = getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except (_BrokenPipeError, BrokenPipeError):
        _silence_stdout()
        sys.exit(BROKEN_PIPE)
    except ModuleNotFoundError as error:
        if (hint := advice(error)) is None:
            _report(error)
        fail(str(error) if hint in str(error) else f"this {hint}")
    except typer.Abort as error:
        if not isinstance(error.__cause__, EOFError):
            sys.exit(130)
        _report(error.__cause__)  # the end of a file, which Typer takes for that of a terminal's input
    except Exception as error:
        if (foreseen := foreseeable(error)) is None:
            _report(error)
        fail(foreseen)
    except SystemExit as stopped:
        if isinstance(stopped.__context__, BrokenPipeError):  # Typer's own way of ending
            _silence_stdout()
            sys.exit(BROKEN_PIPE)
        raise
    sys.exit(code or 0)


def fail(message: str) -> NoReturn:
    """Prints `error: message` as one line on stderr and exits with code 2."""
    print("error: " + one_line(message), file=sys.stderr)
    _silence_stdout(unless_it_works=True)
    sys.exit(2)


def _report(error: BaseException) -> NoReturn:
    """Says that something is a bug, and where its traceback is."""
    print("error: " + one_line(keep_traceback(error)), file=sys.stderr)
    _silence_stdout(unless_it_works=True)
    sys.exit(BUG)


def _silence_stdout(*, unless_it_works: bool = False) -> None:
    """Lets the interpreter end without a word on what could not be written."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if unless_it_works:
            try:
                sys.stdout.flush()
            except OSError:
                pass
            else:
                return
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
