"""Draws figures by name: every file is rendered in memory first, then written whole."""

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lorakappa.figures.catalogue import FIGURES, FORMATS
from lorakappa.figures.saved import Saved, load
from lorakappa.figures.style import RC
from lorakappa.shared.command_line import note
from lorakappa.shared.records import ensure_writable, write_bytes


def draw(
    name: str,
    source_dir: str | os.PathLike[str],
    target_dir: str | os.PathLike[str],
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Draws one figure of saved data.

    Args:
        name: one of `FIGURES`.
        source_dir: folder with the data.
        target_dir: folder for NAME.png, …; created if need be.
        formats: some of `FORMATS`.

    Returns:
        The files written.

    Raises:
        ValueError: on an unknown name or format, or data that is not what the figure needs.
        OSError: if the data is missing or a file cannot be read or written.
    """
    return draw_all([name], source_dir, target_dir, formats)


def draw_all(
    names: Iterable[str],
    source_dir: str | os.PathLike[str],
    target_dir: str | os.PathLike[str],
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Draws several figures: all of them are ready before the first file is written.

    Args, returns and raises: as for `draw`.
    """
    names, source, target = list(dict.fromkeys(names)), Path(source_dir), Path(target_dir)
    check_formats(formats)
    for name in names:
        check_name(name)
        check_data(name, source)
    contents: dict[Path, bytes] = {}
    for name in names:
        kind = FIGURES[name]
        for suffix, content in render(kind.plot, load(kind.data, source, kind.arrays), formats).items():
            contents[target / f"{name}.{suffix}"] = content
    for path in contents:
        ensure_writable(path)
    for path, content in contents.items():
        write_bytes(path, content)
    return list(contents)


def draw_file(name: str, file: str | os.PathLike[str], formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draws a figure of one JSON file, whatever its name, beside that file.

    Args:
        name: one of `FIGURES` whose result is JSON only.
        file: NAME.json.
        formats: some of `FORMATS`.

    Returns:
        The files written: NAME.png, ….

    Raises:
        ValueError: on an unknown name or format, a figure that needs arrays, or data that it cannot show.
        OSError: if a file cannot be read or written.
    """
    check_name(name)
    check_formats(formats)
    kind, path = FIGURES[name], Path(file)
    if kind.arrays or path.suffix != ".json":
        raise ValueError(f"{name} cannot be drawn from {path.name} alone")
    saved = load(path.stem, path.parent, arrays=False, data=kind.data)
    contents = {path.with_suffix(f".{suffix}"): image for suffix, image in render(kind.plot, saved, formats).items()}
    for target in contents:
        ensure_writable(target)
    return [write_bytes(target, image) for target, image in contents.items()]


def draw_saved(data: str, folder: str | os.PathLike[str], file: str | os.PathLike[str] | None = None) -> list[Path]:
    """Draws what a command has just saved: what cannot be drawn is said on stderr, in a line, and left out.

    The result is on disk, so that a figure decides neither whether the command succeeded nor what it says.

    Args:
        data: name of the result.
        folder: where it is, and where the figures go.
        file: the JSON file, if the result is JSON only and may have any name.

    Returns:
        The files written.
    """
    drawn = []
    for name in names_for(data):
        try:
            with warnings_noted():
                drawn += draw(name, folder, folder) if file is None else draw_file(name, file)
        except Exception as error:  # whatever it is, the result is saved
            note(f"no figure {name}: {failure(error)}")
    return drawn


@contextmanager
def warnings_noted() -> Iterator[None]:
    """Context of a command's drawing: what data makes Matplotlib warn of is said in a line each, for people."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in warned):
        note(f"drawn, but: {message}")


def render(plot: Callable[[Saved], Figure], saved: Saved, formats: Sequence[str]) -> dict[str, bytes]:
    """Format → contents of the file, made with the project's style only.

    Raises:
        ValueError: if the data cannot be shown, whatever Matplotlib says of it.
        MemoryError: if there is too little memory.
    """
    contents = {}
    with matplotlib.style.context(RC, after_reset=True), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            figure = plot(saved)
            layout = figure.get_layout_engine()
            if layout is not None:  # once for all formats, and without drawing
                layout.execute(figure)
            figure.set_layout_engine("none")
            for suffix in formats:
                stream = io.BytesIO()
                if suffix == "png":  # what savefig does behind a rehearsal that finds nothing to do here
                    FigureCanvasAgg(figure).print_png(stream, metadata=FORMATS[suffix])  # type: ignore[no-untyped-call]
                else:
                    figure.savefig(stream, format=suffix, metadata=FORMATS[suffix])
                contents[suffix] = stream.getvalue()
        except MemoryError:
            raise
        except Exception as error:
            message = f"the data of {saved.name} is not what its figure expects: {failure(error)}"
            raise ValueError(message) from error
    for warning in warned:  # of what was drawn; beside an error they would only be in the way
        if not str(warning.message).startswith("Glyph "):  # names in letters that the font does not have
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return contents


def failure(error: Exception) -> str:
    """What to say of an exception, whose text alone may be a bare key."""
    return str(error) if isinstance(error, ValueError | OSError) and str(error) else f"{type(error).__name__}: {error}"


def names_for(data: str) -> list[str]:
    """The figures that are drawn from the result of that name."""
    return [name for name, kind in FIGURES.items() if kind.data == data]


def available(source: Path) -> list[str]:
    """The figures whose data is in a folder."""
    return [name for name, kind in FIGURES.items() if all(path.is_file() for path in kind.files(source))]


def check_name(name: str) -> None:
    """Raises ValueError for a figure that does not exist."""
    if name not in FIGURES:
        raise ValueError(f"unknown figure {name!r}; choose from {', '.join(FIGURES)} or all")


def check_formats(formats: Sequence[str]) -> None:
    """Raises ValueError for formats that cannot be written."""
    unknown = [suffix for suffix in formats if suffix not in FORMATS]
    if unknown or not formats:
        what = f"unknown format {unknown[0]!r}" if unknown else "no format given"
        raise ValueError(f"{what}; choose from {', '.join(FORMATS)}")


def check_data(name: str, source: Path) -> None:
    """Raises FileNotFoundError, saying what makes the data, unless a figure's data is there."""
    kind = FIGURES[name]
    missing = [path.name for path in kind.files(source) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{name} needs {' and '.join(missing)} in {source}: run {kind.made_by(source)}")
