"""OnlyForHosts: protects a local server against DNS rebinding, by a check of ``Host``.

Any web page can point its own domain at 127.0.0.1 (DNS rebinding). To the browser, the local server
is then the page's own origin, so the page can read and write it unless the server rejects the
domain's name. An IP address cannot be rebound. Browsers send ``Origin`` with every POST and DELETE
(Fetch, section 3.2), but not with a page's GETs to its own host. A GET may therefore come from a
page. Any other request without ``Origin`` does not, so it may use any name, unless the operator has
listed the allowed ones.
"""

import re
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from chatnest._util.addresses import is_loopback
from chatnest._util.identifiers import new_request_id
from chatnest.asgi.http import headers_named, local_path, respond
from chatnest.config.sections import Config
from chatnest.errors import MisdirectedRequest
from chatnest.wire import Formats

__all__ = ["OnlyForHosts", "hosts_of"]

_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")
_SAFE: Final = {"GET", "HEAD"}

_LONGEST_HOST: Final = 300
"""Maximum characters of ``Host``: a name has 253 (RFC 1035), a port six."""


def hosts_of(config: Config) -> Collection[str] | None:
    """Return the allowed names besides this machine's own; None allows any name.

    Without ``server.allow_hosts`` any name is allowed, unless the server is local: on a loopback
    address, without a proxy in front.
    """
    server = config.server
    if server.allow_hosts:
        return frozenset(server.allow_hosts)
    local = is_loopback(server.host) and not config.identity.trusted_proxies
    return frozenset() if local else None


class OnlyForHosts:
    """Rejects requests for other hosts with 421 (RFC 9110, section 15.5.20).

    With ``hosts``, every request is checked, otherwise only requests that may come from a page. A
    request without ``Host`` does not come from a browser. ``formats`` are those of the chat, which
    render the rejection.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], formats: Formats) -> None:
        self._app = app
        self._formats = formats
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the ASGI application, or reject the request."""
        if scope["type"] == "http" and self._is_refused(scope):
            format_ = self._formats.of(local_path(scope))
            problem = format_.problem(
                MisdirectedRequest(), request_id=new_request_id(), charged=False
            )
            await respond(scope, send, problem)
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
    """Return ``Host`` without port and brackets, or "" if it is invalid (RFC 9110, section 7.2)."""
    if len(host) > _LONGEST_HOST:
        return ""
    match = _AUTHORITY.fullmatch(host.strip(" \t").lower())
    return (match[1] or match[2]) if match else ""
