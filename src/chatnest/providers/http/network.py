"""ServerSettings and Route: the proxy, the trusted certificates and the fields of a gateway.

Settings come first, then the environment variables that curl and others read.
"""

import os
import re
import ssl
from collections.abc import Collection, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment

import msgspec

from chatnest._util.addresses import is_loopback
from chatnest.errors import ConfigurationError

__all__ = [
    "Route",
    "ServerSettings",
    "check_headers",
    "fault_of_address",
    "find_route",
    "without_user",
]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = frozenset(
    (
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length"),
        *("content-type", "host", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
"""Header fields that chatnest sets itself."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a model's server beside its address.

    ``headers`` are additional header fields of each request, such as a gateway's key, and ``query``
    additional fields of its address. ``proxy`` is the address of an HTTP proxy. ``ca_file`` names a
    file of certificates (PEM) to trust in addition to those of the operating system. Without
    ``trust_env``, the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and
    SSL_CERT_DIR are ignored. With ``trace``, requests carry the ``traceparent`` of their trace.
    Raises ConfigurationError, without the value: it may be secret.
    """

    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    proxy: str | None = None
    ca_file: str | None = None
    trust_env: bool = True
    trace: bool = False

    def __post_init__(self) -> None:
        check_headers(self.headers, _OURS)

    def __repr__(self) -> str:
        return f"ServerSettings(headers={list(self.headers)}, query={list(self.query)})"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The way to one address. ``proxy`` may contain a password, and is not in the repr.
    ``proxy_from`` and ``trust`` name the setting or the variable behind the proxy and the trusted
    certificates. ``tls`` is None for the certificates of the operating system.
    """

    proxy: str | None = None
    proxy_from: str = ""
    tls: ssl.SSLContext | None = None
    trust: str = ""

    def __repr__(self) -> str:
        return f"Route(proxy={self.proxy_shown!r}, trust={self.trust!r})"

    @property
    def proxy_shown(self) -> str:
        """The proxy's host and port."""
        return "" if self.proxy is None else urlsplit(self.proxy).netloc.rpartition("@")[2]


def without_user(url: str) -> str:
    """An address without a user and password."""
    scheme, between, rest = url.rpartition("://")
    return f"{scheme}{between}{rest.rpartition('@')[2]}"


def check_headers(headers: Mapping[str, str], reserved: Collection[str]) -> None:
    """Raise ConfigurationError for header fields that are reserved or cannot be sent."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in reserved:
            raise ConfigurationError(
                f"headers[{name!r}]: expected an additional header field, such as api-key, got one "
                "that chatnest sets or a name that HTTP does not allow. Remove it."
            )
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(
                f"headers[{name!r}]: expected printable ASCII, got other characters. Remove them."
            )


def fault_of_address(url: str) -> str:
    """The expectation that ``url`` does not meet, or empty if it can be requested."""
    if not url.startswith(("http://", "https://")):
        return "expected an address that begins with http:// or https://"
    if not url.isprintable() or " " in url:
        return "expected an address without spaces and control characters"
    if "#" in url:
        return "expected an address without a fragment (#)"
    return "" if _has_host(url) else "expected an address with a host and a valid port"


def _has_host(url: str) -> bool:
    """Without a host, the resolver would return addresses of this machine."""
    import httpx2  # noqa: PLC0415  # importing chatnest must not import it

    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return bool(parts.host) and (parts.port is None or parts.port in range(1, 65_536))


def find_route(url: str, settings: ServerSettings) -> Route:
    """The way to ``url``. Raises ConfigurationError for an unusable proxy or certificate file."""
    parts = urlsplit(url)
    proxy, source = _proxy(parts, settings)
    tls, trust = _trust(settings) if parts.scheme == "https" else (None, "")
    return Route(proxy=proxy, proxy_from=source, tls=tls, trust=trust)


def _proxy(parts: SplitResult, settings: ServerSettings) -> tuple[str | None, str]:
    host = parts.hostname or ""
    if is_loopback(host):  # a proxy would look for it on another machine
        return None, ""
    if settings.proxy:
        return _checked(settings.proxy, "proxy"), "proxy"
    proxies = getproxies_environment() if settings.trust_env else {}
    scheme = parts.scheme if parts.scheme in proxies else "all"
    if scheme not in proxies or _is_bypassed(parts, proxies.get("no", "")):
        return None, ""
    source = f"{scheme.upper()}_PROXY"
    return _checked(proxies[scheme], source), source


def _checked(proxy: str, source: str) -> str:
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = proxy.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        kind = "a SOCKS proxy" if scheme.startswith("socks") else "another scheme"
        raise ConfigurationError(
            f"{source}: expected a proxy at http:// or https://, got {kind}. Name an HTTP proxy, "
            "or add the model's host to NO_PROXY."
        )
    try:
        wrong = not urlsplit(proxy).hostname or urlsplit(proxy).port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise ConfigurationError(
            f"{source}: expected a proxy such as http://proxy:3128, got an address without a host "
            "or with an invalid port."
        )
    return proxy


def _is_bypassed(parts: SplitResult, no_proxy: str) -> bool:
    """Whether NO_PROXY matches the host. A name matches itself and its subdomains, with a port only
    that port; an address matches itself, a network in CIDR notation its addresses, ``*`` any host.
    """
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    entries = (entry.strip().lower() for entry in no_proxy.split(","))
    return any(_stands_for(entry, host, port) for entry in entries if entry)


def _stands_for(entry: str, host: str, port: int) -> bool:
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # the host or the entry is a name
        name, _, of_port = entry.partition(":")
        name = name.removeprefix("*").removeprefix(".")
        right_port = not of_port or of_port == str(port)
        return entry == "*" or (right_port and bool(name) and f".{host}".endswith(f".{name}"))


def _trust(settings: ServerSettings) -> tuple[ssl.SSLContext | None, str]:
    """The trusted certificates and their source. SSL_CERT_FILE and SSL_CERT_DIR replace those of
    the operating system, as in OpenSSL. ``ca_file`` adds to either.
    """
    context, trust = None, ""
    named = {
        name: path
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
        if settings.trust_env and (path := os.environ.get(name))
    }
    for name, path in named.items():
        kind = "file" if name == "SSL_CERT_FILE" else "directory"
        if not (Path(path).is_file() if kind == "file" else Path(path).is_dir()):
            raise ConfigurationError(f"{name}: expected a {kind} of certificates, found none.")
    try:
        if named:
            trust = " and ".join(named)
            context = ssl.create_default_context(
                cafile=named.get("SSL_CERT_FILE"), capath=named.get("SSL_CERT_DIR")
            )
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"{trust}: expected certificates in PEM, found none.") from exc
    if settings.ca_file is not None:
        context = _with_file(context, settings.ca_file)
        trust = f"{trust or 'the operating system'} and ca_file"
    return context, trust


def _with_file(context: ssl.SSLContext | None, ca_file: str) -> ssl.SSLContext:
    if context is None:
        context = system_trust()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(
            f"ca_file: expected a file of certificates in PEM at {ca_file!r}, found none."
        ) from exc
    return context


def system_trust() -> ssl.SSLContext:
    """The certificates that the operating system trusts, without the environment's variables."""
    import httpx2  # noqa: PLC0415  # importing chatnest must not import it

    return httpx2.create_ssl_context(trust_env=False)
