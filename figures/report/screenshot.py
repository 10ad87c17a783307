"""The picture of the report on the project's front page: the top of a saved page, as Chromium shows it in light mode.

`make screenshot` makes it anew. Debian's package chromium is all it needs.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from lorakappa.shared.records import write_bytes

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1200, 900)
COLOURS = 64
"""Of the picture, which is text, lines and a few bars."""


def screenshot(page: Path) -> bytes:
    """The top of a page as PNG.

    Raises:
        FileNotFoundError: if there is no page, or no browser.
        OSError: if the browser shows nothing.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError("no Chromium here: apt-get install chromium")
    address = page.resolve(strict=True).as_uri()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        options += [f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={file}"]
        subprocess.run([browser, *options, address], capture_output=True, check=False)
        if not file.is_file():
            raise OSError(f"{browser} made no picture of {page}")
        picture = Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    write_bytes(target, screenshot(source))
