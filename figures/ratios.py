"""iLoRA's ratio: what its factor and its power do to the loss that is reached."""

import numpy as np
from matplotlib.figure import Figure

from lorakappa.figures.saved import Saved
from lorakappa.figures.style import (
    BLUE,
    DOUBLE,
    GREY,
    OPTIMIZERS,
    ORANGE,
    VERMILLION,
    heading,
    method_looks,
    new_figure,
    title,
)

SHAPE_LOOKS = ((VERMILLION, "o", "-"), (BLUE, "s", (0, (4, 2))), (ORANGE, "^", (0, (1, 1.5))))


def plot(saved: Saved) -> Figure:
    """Draws `ratios.npz`: final excess against the factor c and the exponent p of iLoRA's ratio."""
    factors, powers = saved.array("factors"), saved.array("powers")
    finals = saved.array("log10")
    figure = new_figure(DOUBLE, 3.0)
    left, right = figure.subplots(1, 2, sharey=True)
    for j, shape in enumerate(saved.array("shapes")):
        color, marker, line = SHAPE_LOOKS[j % len(SHAPE_LOOKS)]
        label = "×".join(str(size) for size in shape) + f", $r/m$ = {saved.value('settings')['rank'] / shape[0]:.2g}"
        for axes, x, logs in (
            (left, factors, finals[j, : len(factors)]),
            (right, powers, finals[j, len(factors) :]),
        ):
            low, middle, high = 10 ** np.quantile(logs, [0.25, 0.5, 0.75], axis=-1)
            axes.plot(x, middle, color=color, marker=marker, linestyle=line, label=label)
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    left.set(xscale="log", yscale="log", xlabel="$c$", ylabel=f"$f - f^*$ after {saved.value('steps')} steps")
    right.set(xlabel="$p$")
    title(left, "ratio $c\\cdot r/m$", "a")
    title(right, "ratio $(r/m)^p$: $p$ = 0 is balance", "b")
    for axes in (left, right):
        axes.axvline(1, color=GREY, linewidth=0.8, zorder=0)
    handles, labels = left.get_legend_handles_labels()
    text = f"medians and quartiles of n = {finals.shape[-1]} seeds, each at its best step size and λ"
    text += "; line: the paper's ratio"
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title=text)
    settings, optimizer = saved.value("settings"), saved.value("optimizer")
    (look,) = method_looks([saved.value("method")]).values()
    heading(
        figure,
        f"{look.label}, {settings['target']} target, r = {settings['rank']}, {OPTIMIZERS.get(optimizer, optimizer)}",
    )
    return figure
