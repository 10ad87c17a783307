"""Command line for real models, put together from those of its packages."""

from lorakappa.conditioning.claim_commands import add_claim_commands
from lorakappa.llm.adapters.command import audit, balance, convert
from lorakappa.llm.adapters.operations.command import diff, fold, merge, resize
from lorakappa.llm.comparison.command import compare, finetune, methods, presets
from lorakappa.llm.comparison.studies.command import report
from lorakappa.llm.curvature.command import curvature
from lorakappa.llm.data.command import pretrain
from lorakappa.shared.command_line import new_app
from lorakappa.shared.packages import CLAIMS, PACKAGES

ADAPTERS = (audit, balance, convert, resize, fold, merge, diff)

app = new_app(PACKAGES["llm"].summary)
for command in (compare, report, finetune, curvature, *ADAPTERS, methods, presets, pretrain):
    app.command()(command)
add_claim_commands(app, {"llm": CLAIMS["llm"]})
