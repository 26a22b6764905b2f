"""Header fields of a response with an error, in every format. No I/O."""

from chatnest.errors import ChatNestError

__all__ = ["error_headers"]


def error_headers(error: ChatNestError) -> dict[str, str]:
    """The error's own header fields, and Retry-After (RFC 9110, section 10.2.3) if the time to wait
    is known.
    """
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return headers
