"""The path of a request chooses the dialect of its answer. No I/O."""

from chatnest.testing.upstream.dialects.base import Dialect
from chatnest.testing.upstream.dialects.chat import Chat
from chatnest.testing.upstream.dialects.messages import Messages
from chatnest.testing.upstream.dialects.responses import Responses

__all__ = ["dialects_beside"]

_BY_ENDING: dict[str, type[Dialect]] = {
    "/chat/completions": Chat,
    "/responses": Responses,
    "/messages": Messages,
}


def dialects_beside(path: str) -> dict[str, type[Dialect]]:
    """Return the paths that an upstream with `path` answers, and their dialects.

    They are the three that begin as `path` does, if it ends as one of them; otherwise only `path`.
    """
    for ending in _BY_ENDING:
        if path.endswith(ending):
            prefix = path.removesuffix(ending)
            return {prefix + each: dialect for each, dialect in _BY_ENDING.items()}
    return {path: Chat}
