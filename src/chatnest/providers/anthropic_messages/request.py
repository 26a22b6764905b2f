"""The parts of a request beside its conversation: the address, the account, options."""

import os
from typing import Final
from urllib.parse import urlencode

from chatnest.errors import ConfigurationError
from chatnest.providers.http.network import ServerSettings
from chatnest.providers.http.transport import RequestHead

__all__ = ["DEFAULT_BASE_URL", "RESERVED", "key_of", "request_head"]

DEFAULT_BASE_URL: Final = "https://api.anthropic.com"

_PATH: Final = "/v1/messages"
_VERSION: Final = "2023-06-01"

RESERVED: Final = {"max_tokens", "messages", "model", "stream", "system"}
"""Fields that are not taken from ``options``."""


def key_of(api_key: str | None, *, is_needed: bool) -> str:
    """The key from the argument or ANTHROPIC_API_KEY, or empty. Raises ConfigurationError."""
    key = api_key or os.environ.get("ANTHROPIC_API_KEY") or ""
    if is_needed and not key:
        raise ConfigurationError(
            "api_key: expected a key, got none. Set ANTHROPIC_API_KEY, pass api_key, or set "
            "base_url to a server that needs no key."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "api_key: expected printable ASCII, got other characters. Remove them."
        )
    if key != key.strip() or key[:1] in {'"', "'"} or key[-1:] in {'"', "'"}:
        raise ConfigurationError(
            "api_key: expected a key, got one with blanks or quotes around it. Leave only the key."
        )
    return key


def request_head(base_url: str, key: str, server: ServerSettings) -> RequestHead:
    """The head of each request. ``base_url`` may end with the path, which people copy along. Header
    fields of ``server`` replace fields of the same names: a gateway may want the key elsewhere.
    """
    address, _, own = base_url.partition("?")
    address = address.rstrip("/").removesuffix("/messages").removesuffix("/v1").rstrip("/")
    query = "&".join(filter(None, (own, urlencode(server.query))))
    fields = {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "anthropic-version": _VERSION,
        **({"x-api-key": key} if key else {}),
        **{name.lower(): value for name, value in server.headers.items()},
    }
    url = f"{address}{_PATH}{'?' if query else ''}{query}"
    return RequestHead(url, tuple(fields.items()))
