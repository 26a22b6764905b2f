"""The commands of a page and what they print."""

import re
from itertools import pairwise


def commands_of(page: str) -> list[tuple[str, str]]:
    """Commands and what they print, in the order of the page."""
    text = "".join(re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    starts = [match.start() for match in re.finditer(r"^\$ ", text, re.MULTILINE)]
    blocks = [text[start:end] for start, end in pairwise([*starts, len(text)])]
    return [(head[2:], output) for head, _, output in (block.partition("\n") for block in blocks)]
