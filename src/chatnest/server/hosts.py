"""OnlyForHosts: a server of this machine's own answers to this machine's names alone.

A page of anybody's can have its own name lead to 127.0.0.1 (DNS rebinding). What is served there is
then that page's own to the browser, to be read and written as it likes, unless the name by which it
asks is refused. An address cannot be made to lead elsewhere. Browsers tell who asks in ``Origin``
with every POST and DELETE (Fetch, section 3.2), and leave it out of a page's GETs to its own host.
So a GET may be a page's; any other request without ``Origin`` is not, and may use any name, unless
the operator has named those that count.
"""

import re
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from chatnest._util.addresses import is_loopback
from chatnest._util.identifiers import new_request_id
from chatnest.asgi.http import headers_named, respond_problem
from chatnest.config.sections import Config
from chatnest.errors import MisdirectedRequest

__all__ = ["OnlyForHosts", "hosts_of"]

_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")
_SAFE: Final = {"GET", "HEAD"}

_LONGEST_HOST: Final = 300
"""Maximum characters of ``Host``: a name has 253 (RFC 1035), a port six."""


def hosts_of(config: Config) -> Collection[str] | None:
    """The names that a configuration answers to, beside this machine's own; None for any.

    Without ``server.allow_hosts`` they are any, unless the server is this machine's alone: on a
    loopback address, and with no proxy before it.
    """
    server = config.server
    if server.allow_hosts:
        return frozenset(server.allow_hosts)
    local = is_loopback(server.host) and not config.identity.trusted_proxies
    return frozenset() if local else None


class OnlyForHosts:
    """Answers 421 (RFC 9110, section 15.5.20) to requests for another host: to those that may be a
    page's, and to all where ``hosts`` are named. A request without ``Host`` is no browser's.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "http" and self._is_refused(scope):
            await respond_problem(scope, send, MisdirectedRequest(), new_request_id())
        else:
            await self._app(scope, receive, send)

    def _is_refused(self, scope: Scope) -> bool:
        may_be_page = scope["method"] in _SAFE or headers_named(scope, b"origin")
        if not self._hosts and not may_be_page:
            return False
        hosts = headers_named(scope, b"host")
        return len(hosts) > 1 or not all(map(self._is_ours, hosts))

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return name in self._hosts or is_loopback(name)


def _name(host: str) -> str:
    """``Host`` without its port and brackets; nothing where it is none (RFC 9110, section 7.2)."""
    if len(host) > _LONGEST_HOST:
        return ""
    match = _AUTHORITY.fullmatch(host.strip(" \t").lower())
    return (match[1] or match[2]) if match else ""
