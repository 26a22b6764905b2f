"""The files that a page has its reader save: ``python -m docsite.files PAGE FOLDER`` writes them.

A block of code is a file if the text before it says "as `NAME`" or "`NAME` becomes".
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["Block", "blocks_of", "write_files"]

_BLOCK = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\bas `([\w./-]+)`|`([\w./-]+)`\s+becomes")


class Block(NamedTuple):
    """A block of code, and the name of its file, or nothing."""

    language: str
    text: str
    file: str


def blocks_of(page: str) -> list[Block]:
    """All blocks of a page, in their order."""
    found, end = [], 0
    for block in _BLOCK.finditer(page):
        names = [one or other for one, other in _NAME.findall(page[end : block.start()])]
        found.append(Block(block[1], block[2], names[-1] if names else ""))
        end = block.end()
    return found


def write_files(page: Path, folder: Path) -> list[Path]:
    """Write the files of a page into a folder, each in its last version."""
    written = []
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    for each in write_files(Path(sys.argv[1]), Path(sys.argv[2])):
        print(each)
