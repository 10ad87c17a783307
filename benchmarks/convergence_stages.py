"""`lorakappa synthetic convergence` stage by stage in a process of its own: prints seconds of processor time as JSON.

Matplotlib's modules are imported one by one first; what the command does is what the command line calls.
"""

import gc
import json
import sys
import tempfile
import time
from pathlib import Path

seconds: dict[str, float] = {}
last = 0.0


def done(stage: str) -> None:
    """Ends a stage."""
    global last
    now = time.process_time()
    seconds[stage] = now - last
    last = now


done("Python itself")
import numpy  # noqa: E402, F401

import lorakappa.__main__ as command_line  # noqa: E402
import lorakappa.synthetic.command  # noqa: E402, F401
from lorakappa.synthetic.experiments.convergence import convergence  # noqa: E402
from lorakappa.synthetic.results import save  # noqa: E402
from lorakappa.synthetic.settings import ProblemSettings  # noqa: E402

gc.set_threshold(command_line.OBJECTS_AT_ONCE)
done("imports: NumPy, command line, simulator")
result = convergence(ProblemSettings())
done("the simulation")
with tempfile.TemporaryDirectory() as folder:
    save(result, Path(folder))
    done("saving")
    import lorakappa.figures.drawing as drawing

    done("imports: Matplotlib, pydantic")
    from matplotlib._constrained_layout import do_constrained_layout  # noqa: F401
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    execute = ConstrainedLayoutEngine.execute
    layout = 0.0

    def timed(self, figure):  # type: ignore[no-untyped-def]
        """The layout, counted."""
        global layout
        began = time.process_time()
        execute(self, figure)
        layout += time.process_time() - began

    ConstrainedLayoutEngine.execute = timed  # type: ignore[method-assign]
    drawing.draw_saved("convergence", folder)
done("drawing and PNG")
seconds["drawing and PNG"] -= layout
seconds["Matplotlib's layout"] = layout
json.dump(seconds, sys.stdout)
