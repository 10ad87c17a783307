"""Which failures can be foreseen, to be said in one line, and which are bugs, to be reported with their traceback.

The rule, for exceptions that reach the top of a command:

- what the machine or the files refuse can be foreseen wherever it is raised: OSError, MemoryError, RecursionError,
  OverflowError, text that is not UTF-8, a worker process that was killed;
- a ValueError can be foreseen if a `raise` statement says it, ours or a library's: somebody looked at a value and
  refused it. One that an operation makes (`int("x")`, shapes that do not fit) is a bug: we should have looked;
- any other exception can be foreseen only if a `raise` statement of this package says it: TypeError for an argument of
  the wrong type, ArithmeticError for an iteration that does not converge. From inside a library it is a bug, and so are
  KeyError, AttributeError and the like wherever they come from.
"""

import contextlib
import dis
import os
import re
import sys
import tempfile
import traceback
from types import TracebackType

BUG = 70
"""Exit code of a bug: EX_SOFTWARE."""

SHOW = "LORAKAPPA_TRACEBACK"
"""Environment variable: 1 prints the traceback of a bug rather than writing it into a file."""

NEVER_MEANT = (KeyError, IndexError, AttributeError, AssertionError, NotImplementedError, NameError)
"""Exceptions that are no message to a user, also where we raise them."""

OUT_OF_MEMORY = ("OutOfMemoryError",)
"""What torch calls it on a GPU; on a CPU it is a RuntimeError that "can't allocate memory"."""

LONGEST = 2000
"""Characters of a message."""


def foreseeable(error: BaseException) -> str | None:
    """What to say of an exception that can be foreseen.

    Args:
        error: that reached the top of a command.

    Returns:
        The message; None if it is a bug.
    """
    if isinstance(error, OSError):
        return _of_os(error)
    if isinstance(error, MemoryError) or type(error).__name__ in OUT_OF_MEMORY or "can't allocate memory" in str(error):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, RecursionError):
        return f"something is nested too deeply: {error}"
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}"
    if isinstance(error, UnicodeError):
        return f"a text has characters that cannot be read or written: {error}"
    if type(error).__name__ == "BrokenProcessPool":
        return "a worker process was killed, perhaps for lack of memory; try fewer --jobs"
    raised, ours = _origin(error)
    if isinstance(error, NEVER_MEANT) or not raised:
        return None
    if isinstance(error, ValueError) or ours:
        return str(error) or type(error).__name__
    return None


def keep_traceback(error: BaseException) -> str:
    """Writes the traceback of a bug into a new file, or prints it if `SHOW` is set or no file can be written.

    Args:
        error: the bug.

    Returns:
        What to say of it.
    """
    text = "".join(traceback.format_exception(error))
    said = f"this is a bug: {type(error).__name__}: {error}"
    if os.environ.get(SHOW, "") not in ("", "0"):
        print(text, file=sys.stderr, end="")
        return f"{said}; please report it"
    try:
        handle, path = tempfile.mkstemp(prefix="lorakappa-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{' '.join(map(repr, sys.argv))}\n\n{text}")
    except OSError:
        print(text, file=sys.stderr, end="")
        return f"{said}; please report it"
    return f"{said}; the traceback is in {path}, please report it"


def first_line(error: BaseException) -> str:
    """The first line of what an exception of a library says, where the rest is advice for its developers."""
    return str(error).strip().split("\n", 1)[0]


def one_line(message: str) -> str:
    """A message as one line of printable characters."""
    text = printable(" ".join(message.split()))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def printable(text: str) -> str:
    """A text without characters that steer a terminal: they are shown as \\x1b and the like; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" or (c.isspace() and c > "\x9f") else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if not 0xD800 <= ord(character) < 0xE000 else character


def _of_os(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename in (None, ""):
        return reason
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"{reason}: {name}"


def _origin(error: BaseException) -> tuple[bool, bool]:
    """Whether a `raise` statement made an exception, and whether that is in this package.

    An exception of a worker process comes with its traceback as text only.
    """
    remote = getattr(error.__cause__, "tb", None)
    if isinstance(remote, str):
        entries = re.findall(r'^  File "(.+)", line \d+, in .*\n    (.*)', remote, flags=re.MULTILINE)
        file, line = entries[-1] if entries else ("", "")
        ours = any(os.path.realpath(file).startswith(root + os.sep) for root in _roots())
        return line.startswith("raise"), ours
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False, False
    name = str(last.tb_frame.f_globals.get("__name__", ""))
    return _at_raise(last), name.partition(".")[0] == "lorakappa"


def _at_raise(last: TracebackType) -> bool:
    """Whether a frame was left by a `raise` statement."""
    with contextlib.suppress(IndexError):
        return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]].startswith(("RAISE_VARARGS", "RERAISE"))
    return False


def _roots() -> list[str]:
    """Folders of the packages; not that of lorakappa itself, which in a checkout may hold the libraries, too."""
    modules = [module for name, module in sys.modules.items() if name.startswith("lorakappa.")]
    return sorted({os.path.realpath(path) for module in modules for path in getattr(module, "__path__", ())})
