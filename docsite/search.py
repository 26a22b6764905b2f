"""The words of the site's search: as Sphinx has them for English, with numbers.

Sphinx leaves numbers out of the index, and its page leaves them out of a question. People search
for ``429`` and ``503``. ``static/search.js`` is the other half.
"""

from sphinx.search.en import SearchEnglish

__all__ = ["SearchWithNumbers"]


class SearchWithNumbers(SearchEnglish):
    """English, in which a number is a word."""

    def word_filter(self, word: str) -> bool:
        return word.isdigit() or super().word_filter(word)
