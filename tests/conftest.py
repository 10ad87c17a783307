"""Test settings: deterministic hypothesis, so that a red run is red for everybody; how much is fuzzed."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")

CASES = 1500
"""Cases of the fuzz suite unless --fuzz or LORAKAPPA_FUZZ says otherwise."""

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub: no test asks it
os.environ.pop("COLUMNS", None)  # readline sets it for workers; output is as wide as without a terminal


def pytest_addoption(parser):
    group = parser.getgroup("fuzz")
    group.addoption("--fuzz", type=int, metavar="N", help=f"cases of the fuzz suite (default {CASES})")
    group.addoption("--fuzz-report", metavar="FILE", help="write what was fuzzed, by command and exit code, as JSON")


def pytest_configure(config):
    if config.getoption("--fuzz") is not None:
        os.environ["LORAKAPPA_FUZZ"] = str(config.getoption("--fuzz"))
    config.fuzz_report = []


def pytest_sessionfinish(session):
    """A worker of xdist hands its counts over; the one process that ends the session writes them."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["fuzz"] = config.fuzz_report
    elif config.getoption("--fuzz-report"):
        commands = {}
        for entry in config.fuzz_report:
            for command, codes in entry.items():
                counts = commands.setdefault(command, {})
                for code, count in codes.items():
                    counts[code] = counts.get(code, 0) + count
        total = {}
        for counts in commands.values():
            for code, count in counts.items():
                total[code] = total.get(code, 0) + count
        table = {
            "cases": sum(total.values()),
            "by exit code": dict(sorted(total.items())),
            "by command": dict(sorted(commands.items())),
        }
        file = Path(config.getoption("--fuzz-report"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(table, indent=2) + "\n")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    if hasattr(node, "workeroutput"):
        node.config.fuzz_report.extend(node.workeroutput.get("fuzz", []))
