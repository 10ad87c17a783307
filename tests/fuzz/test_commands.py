"""Whatever a command line is given: one clear line or a result, nothing half written, no traceback, no hang."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import CASES
from tests.fuzz.commands import COMMANDS, all_commands, cases, materialize, options
from tests.fuzz.harness import Report, attempt, places

TOTAL = sum(command.weight for command in COMMANDS)


def share(command):
    """Number of cases of a command."""
    return max(3, round(int(os.environ.get("LORAKAPPA_FUZZ", CASES)) * command.weight / TOTAL))


def test_every_command_is_fuzzed():
    assert sorted({command.name for command in COMMANDS}) == all_commands()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_nothing_breaks(command, request, tmp_path):
    stands = {} if not command.needs else request.getfixturevalue("small_models")
    if command.needs:
        request.getfixturevalue("untrained")
    if command.name != "figures":
        request.getfixturevalue("undrawn")
    if command.name == "report":
        request.getfixturevalue("unmade")
    known = {name: count for name, count in options(command.name).items() if name != "--help"}
    report = Report(command.name)

    @settings(
        max_examples=share(command),
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
        deadline=None,
    )
    @given(case=st.one_of(cases(command, known)))
    def run(case):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        try:
            arguments = materialize(command, *case, folder, stands)
            attempt(report, arguments, folder, places(arguments, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    run()
    request.config.fuzz_report.append({report.command: dict(report.codes)})
    assert not report.failures, f"{len(report.failures)} kinds of failure\n" + "\n".join(
        f"- {failure}\n    lorakappa {shown}" for failure, shown in report.failures.values()
    )
