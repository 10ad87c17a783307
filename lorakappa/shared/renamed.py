"""Old spellings on the command line, answered with the new one."""

from typing import Any

OPTIONS = {
    "--adapter": {"finetune": "--out"},
    "--budget": {"compare": "--steps", "finetune": "--steps"},
    "--family": {"phase": "--spectrum", "duel": "--spectrum"},
    "--max-steps": {"rates": "--steps", "kappa-histogram": "--steps"},
    "--method": {"curvature": "--solver"},
    "--scale": {
        "finetune": "--scaling",
        **dict.fromkeys(("convergence", "kappa-histogram", "duel", "ratios", "settle"), "--init-std"),
    },
    "--scales": {"compare": "--scalings", "phase": "--init-stds", "ratios": "--factors"},
    "--to": {"figures": "--out"},
}
"""Old option → command → new option."""

ARGUMENTS = {"balance": "--out", "pretrain": "--out"}
"""Command → the option that a former second argument has become."""


def now_called(error: Any) -> str:
    """What to append to a usage error: how the option is called now; nothing for options that never were.

    Args:
        error: Typer's error, with the command's context where it has one.
    """
    command = getattr(getattr(getattr(error, "ctx", None), "command", None), "name", None) or ""
    option = getattr(error, "option_name", None)
    if option is None:
        formerly = ARGUMENTS.get(command)
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        concerned = formerly and (formerly in text or "unexpected extra argument" in text)
        return f"; the folder to write is named with {formerly} now" if concerned else ""
    renamed = OPTIONS.get(option, {}).get(command)
    return f"; {option} is called {renamed} now" if renamed else ""
