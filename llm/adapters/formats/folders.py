"""Which files of an adapter's folder go with it: links that lead out of the folder are not followed."""

import os
from pathlib import Path


def files_to_carry(folder: Path) -> list[Path]:
    """The files of a folder, without its folders, pipes, devices and sockets; links only where they stay inside.

    A link may lead to a file in the folder or, in a snapshot of the Hugging Face Hub, to that repository's blobs.

    Raises:
        OSError: naming a link that leads elsewhere or nowhere: what it leads to is nobody's to publish by accident.
    """
    home = Path(os.path.realpath(folder))
    allowed = [home, *(parent.parent / "blobs" for parent in home.parents if parent.name == "snapshots")]
    files = []
    for file in sorted(folder.iterdir()):
        end = Path(os.path.realpath(file))
        if file.is_symlink() and not end.exists():
            raise FileNotFoundError(f"{file} is a link to nowhere; remove it or restore {end}")
        if not file.is_file():
            continue
        if file.is_symlink() and not any(end.is_relative_to(root) for root in allowed):
            raise PermissionError(
                f"{file} is a link to {end}, outside of the adapter's folder; put a copy in its place or remove it"
            )
        files.append(file)
    return files
