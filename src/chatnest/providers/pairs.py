"""whole_pairs: text from JSON that may have halves of surrogate pairs. No I/O."""

__all__ = ["whole_pairs"]


def whole_pairs(text: str) -> tuple[str, str]:
    """Text without halves of surrogate pairs, and a first half at its end, if any, whose second may
    follow. A half alone becomes U+FFFD.
    """
    half = ""
    if "\ud800" <= text[-1] <= "\udbff":
        text, half = text[:-1], text[-1]
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), half
