"""Sources: the pages that an answer refers to, in the fields of several servers. No I/O."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from chatnest.events import Source
from chatnest.providers.openai.loose_json import loads
from chatnest.providers.openai_chat.shapes import EMPTY, mended

__all__ = ["Sources"]

_MOST: Final = 512
"""Maximum sources of an answer."""

_LONGEST_URL: Final = 4_096
_LONGEST_TITLE: Final = 512
_SCHEMES: Final = ("https://", "http://")
"""A page may show a source as a link, so that no other scheme is passed on."""


class Sources:
    """The sources of one answer. Servers repeat them in every chunk; each is an event once."""

    __slots__ = ("_last", "_seen")

    def __init__(self) -> None:
        self._seen: set[Source] = set()
        self._last: dict[str, msgspec.Raw] = {}

    def annotations(self, raw: msgspec.Raw) -> Iterator[Source]:
        """The new sources of ``annotations``, as OpenAI and OpenRouter send them."""
        for annotation in self._list(raw, "annotations"):
            if isinstance(annotation, dict) and annotation.get("type") == "url_citation":
                cited = annotation.get("url_citation", annotation)
                yield from self._new(cited)

    def results(self, citations: msgspec.Raw, results: msgspec.Raw) -> Iterator[Source]:
        """The new sources of Perplexity's ``search_results``, which have titles, or else of the
        addresses in ``citations``, which xAI has as well.
        """
        found = self._list(results, "results")
        for result in found:
            yield from self._new(result)
        if results in EMPTY:
            for address in self._list(citations, "citations"):
                yield from self._new({"url": address} if isinstance(address, str) else address)

    def _list(self, raw: msgspec.Raw, name: str) -> list[Any]:
        if raw in EMPTY or self._last.get(name) == raw:
            return []
        self._last[name] = msgspec.Raw(bytes(raw))
        found = loads(raw)
        return found if isinstance(found, list) else []

    def _new(self, cited: object) -> Iterator[Source]:
        if not isinstance(cited, dict) or len(self._seen) >= _MOST:
            return
        url, title = cited.get("url"), cited.get("title")
        if not isinstance(url, str) or not url.lower().startswith(_SCHEMES):
            return
        if len(url) > _LONGEST_URL:
            return
        url = mended(url)
        start, end = (_place(cited.get(name)) for name in ("start_index", "end_index"))
        title = mended(title[:_LONGEST_TITLE]) if isinstance(title, str) else ""
        source = Source(url, title, start, end) if end > start else Source(url, title)
        if source not in self._seen:
            self._seen.add(source)
            yield source


def _place(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
