"""The rooms know of each other only what they should, and importing the theory is cheap."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "conditioning": set(),
    "synthetic": {"conditioning", "figures"},
    "llm": {"conditioning", "figures"},
    "figures": {"conditioning"},
}


def test_rooms_import_only_what_they_may():
    import ast

    for room, allowed in ALLOWED.items():
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.append(node.module)
                used = {name.split(".")[0] for name in names} & set(ALLOWED)
                assert used <= allowed | {room}, f"{file.relative_to(ROOT)} imports {used - allowed - {room}}"


def test_importing_the_theory_does_not_load_torch_or_matplotlib():
    heavy = {"torch", "matplotlib", "transformers", "peft"}
    code = f"import sys, conditioning, conditioning.claims, llm; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "set()"


def test_the_public_names_exist_and_are_documented():
    import conditioning

    for name in conditioning.__all__:
        assert getattr(conditioning, name).__doc__ or name.isupper(), f"{name} has no docstring"
