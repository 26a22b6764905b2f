"""The parts of a request beside its messages: the address, the account, options."""

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec

from chatnest.errors import ConfigurationError

__all__ = ["Account", "account_of", "split_query"]

_PATHS: Final = ("/chat/completions", "/responses")
"""Paths that people copy along with the address of an API."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account that pays. It is not in the repr."""

    api_key: str
    organization: str | None
    project: str | None

    def __repr__(self) -> str:
        return "Account()"


def account_of(
    *, api_key: str | None, organization: str | None, project: str | None, is_needed: bool
) -> Account:
    """The account from arguments and environment variables. Raises ConfigurationError."""
    key = api_key or os.environ.get("OPENAI_API_KEY")
    if is_needed and not key:
        raise ConfigurationError(
            "api_key: expected a key, got none. Set OPENAI_API_KEY, pass api_key, or set base_url "
            "to a server that needs no key."
        )
    key = key or "none"
    for setting, text in (
        ("api_key", key),
        ("organization", organization or os.environ.get("OPENAI_ORG_ID")),  # as the SDK does
        ("project", project or os.environ.get("OPENAI_PROJECT_ID")),
    ):
        if text and not (text.isascii() and text.isprintable()):
            raise ConfigurationError(
                f"{setting}: expected printable ASCII, got other characters. Remove them."
            )
    _check_key(key)
    return Account(api_key=key, organization=organization, project=project)


def _check_key(key: str) -> None:
    """Raise ConfigurationError for a key that was copied with its surroundings: ``docker run
    --env-file`` keeps quotes, and curl's examples have it after ``Bearer``.
    """
    wrong = {
        "in quotes": key[:1] in {'"', "'"} or key[-1:] in {'"', "'"},
        "after Bearer": key.lower().startswith("bearer "),
        "with blanks around it": key != key.strip(),
    }
    for what, is_so in wrong.items():
        if is_so:
            raise ConfigurationError(
                f"api_key: expected a key, got one {what}. Leave only the key."
            )


def split_query(base_url: str, query: Mapping[str, str]) -> tuple[str, str]:
    """The address of an API without its query, and the query. The path of a dialect at the end,
    which people copy along, is removed.
    """
    address, _, own = base_url.partition("?")
    address = address.rstrip("/")
    for path in _PATHS:
        address = address.removesuffix(path)
    return address, "&".join(filter(None, (own, urlencode(query))))
