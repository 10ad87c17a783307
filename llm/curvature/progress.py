"""How far the products of a curvature are, and how long the rest of them will take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lorakappa.shared.command_line import errors
from lorakappa.shared.forecast import PATIENCE_SECONDS, announce, check_duration


class Products:
    """Counts the products of some layers, shows a bar, and says once how long all of them are expected to take.

    Args:
        bar: to show them on.
        layers: number of layers.
        quiet: never say anything.
    """

    def __init__(self, bar: Progress, layers: int, quiet: bool) -> None:
        self._bar, self._layers, self._quiet = bar, layers, quiet
        self._said = False

    @contextmanager
    def of(self, layer: str, expected: int, *, layers: int = 1) -> Iterator[None]:
        """Within, `advance` counts products of a layer, of which so many are expected; 0 layers for preparing."""
        self._task = self._bar.add_task(layer, total=expected)
        self._expected, self._done, self._own = expected, 0, layers
        self._began = time.perf_counter()
        yield
        self._bar.remove_task(self._task)
        self._layers -= layers

    def reached(self, n: int, expected: int) -> None:
        """Counts n products where by now so many are expected in all."""
        self._expected = expected
        self.advance(n)

    def advance(self, n: int) -> None:
        """Counts n products.

        Raises:
            ValueError: once the work turns out to take longer than a year.
        """
        self._done += n
        self._expected = max(self._expected, self._done)
        self._bar.update(self._task, completed=self._done, total=self._expected)
        passed = time.perf_counter() - self._began
        if not self._said and passed > PATIENCE_SECONDS:
            self._said = True
            seconds = passed * self._expected / self._done * max(1, self._own * self._layers)
            layers = f"{self._layers} layer{'s' if self._layers > 1 else ''}"
            what = f"the curvature of {layers}" if self._own else f"preparing {layers}"
            check_duration(seconds, what, "choose fewer --examples or --layers")
            announce(seconds, what, quiet=self._quiet)


@contextmanager
def counted(layers: int, *, show: bool) -> Iterator[Products]:
    """A counter of the products of so many layers, with its bar on stderr."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not show) as bar:
        yield Products(bar, layers, quiet=not show)
