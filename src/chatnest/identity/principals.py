"""Principals: the names that limits and costs belong to. No I/O.

``identify(scope)`` returns a principal, an Identity, or None to refuse the request with a 401. It
may be async. Its attribute ``challenge``, if any, becomes the WWW-Authenticate field of that 401.
Each source of names has a prefix of its own, so names from different sources never collide.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from typing import Final

from starlette.types import Scope

from chatnest._util.arguments import check_integer
from chatnest.asgi.http import headers_named
from chatnest.errors import ConfigurationError
from chatnest.identity.users import framework_user

__all__ = [
    "MAX_NAME",
    "ClientAddress",
    "TrustedHeader",
    "UserOrAddress",
    "everybody_like",
    "framework_user",
    "is_anonymous",
]

MAX_NAME = 256
_MOST_HOPS = 32
"""Maximum hops of X-Forwarded-For that are read, from the right. A client whose address is further
to the left is counted as the last proxy that was read.
"""
_LONGEST_ADDRESS = 64
"""Maximum characters of an address, with its brackets, zone and port."""

_ADDRESS: Final = "addr:"
_EVERYBODY: Final = "all"
_IPV6: Final = 6
_SHORTEST_PREFIX: Final = 32
_LONGEST_PREFIX: Final = 128


def is_anonymous(principal: str) -> bool:
    """Whether a principal is an address, as `ClientAddress` names it, and not a logged-in user.

    The prefix ``demo/`` may precede it.
    """
    return principal.removeprefix("demo/").startswith(_ADDRESS)


def everybody_like(principal: str) -> str:
    """The account that all anonymous principals share. No address has this name."""
    return f"{principal.partition(_ADDRESS)[0]}{_ADDRESS}{_EVERYBODY}"


class ClientAddress:
    """The client's address, such as ``addr:203.0.113.7``.

    An IPv6 address counts by its network of ``ipv6_prefix`` bits, from 32 to 128: a subscriber
    gets at least a /64, and often a /56 or a /48 (RFC 6177).

    X-Forwarded-For counts only for connections from ``trusted_proxies``: addresses, networks, or
    ``"unix"`` for a socket without an address. The client's address is then the rightmost one that
    is not a trusted proxy, since a client can forge everything to the left of it.
    """

    def __init__(self, trusted_proxies: Iterable[str] = (), *, ipv6_prefix: int = 64) -> None:
        check_integer("ipv6_prefix", ipv6_prefix, _SHORTEST_PREFIX, _LONGEST_PREFIX)
        self._ipv6_prefix = ipv6_prefix
        if isinstance(trusted_proxies, str):
            raise ConfigurationError("trusted_proxies: expected a list of addresses, got a string.")
        names = list(trusted_proxies)
        self._unix = "unix" in names
        try:
            self._networks = [ip_network(n, strict=False) for n in names if n != "unix"]
        except ValueError as exc:
            raise ConfigurationError(f"trusted_proxies: {exc}") from exc
        self._has_proxies = bool(names)

    def __call__(self, scope: Scope) -> str:
        address = self._address(scope) if self._has_proxies else _peer(scope)
        return _account(address, self._ipv6_prefix)

    def is_trusted(self, scope: Scope) -> bool:
        """Whether the connection comes from one of the proxies."""
        return self._trusts(_peer(scope))

    def _address(self, scope: Scope) -> IPv4Address | IPv6Address | None:
        address = _peer(scope)
        if not self._trusts(address):
            return address
        for hop in islice(_hops(scope), _MOST_HOPS):
            forwarded = _parse(hop.strip())
            if forwarded is None:
                break
            address = forwarded
            if not self._trusts(address):
                break
        return address

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        if address is None:
            return self._unix
        return any(address in network for network in self._networks)


class TrustedHeader:
    """The value of a header field that your own proxy sets, such as ``header:ann``.

    The field counts only for connections from ``trusted_proxies``, by default this machine's own
    addresses. All other requests are refused, and so is a field that is empty, longer than 256
    characters, or repeated.
    """

    def __init__(
        self, name: str, trusted_proxies: Iterable[str] = ("127.0.0.0/8", "::1", "unix")
    ) -> None:
        if not name or not name.isascii() or any(c in name for c in " \t\r\n:"):
            raise ConfigurationError(
                f"name: expected the name of a header field, such as x-user-id, got {name!r}."
            )
        self._name = name.lower().encode()
        self._proxies = ClientAddress(trusted_proxies)

    def __call__(self, scope: Scope) -> str | None:
        values = headers_named(scope, self._name)
        if len(values) != 1 or not self._proxies.is_trusted(scope):
            return None
        value = values[0].strip(" \t")  # RFC 9110, section 5.5; other white space is part of it
        if not value or len(value) > MAX_NAME or not value.isprintable():
            return None
        return f"header:{value}"


class UserOrAddress:
    """The default: the user that the framework has authenticated, such as ``user:42``, or without
    one the client's address, as `ClientAddress` names it. Raises TypeError as `framework_user`.
    """

    def __init__(self, trusted_proxies: Iterable[str] = (), *, ipv6_prefix: int = 64) -> None:
        self._address = ClientAddress(trusted_proxies, ipv6_prefix=ipv6_prefix)

    def __call__(self, scope: Scope) -> str:
        user = None if scope.get("user") is None else framework_user(scope)
        return user or self._address(scope)


def _peer(scope: Scope) -> IPv4Address | IPv6Address | None:
    client = scope.get("client")
    return _parse_peer(client[0]) if client else None


def _hops(scope: Scope) -> Iterator[str]:
    """The hops of X-Forwarded-For from the right, the nearest first."""
    for field in islice(_from_the_right(scope), _MOST_HOPS):
        yield from reversed(field.decode("latin-1").rsplit(",", _MOST_HOPS))


def _from_the_right(scope: Scope) -> Iterator[bytes]:
    return (value for name, value in reversed(scope["headers"]) if name == b"x-forwarded-for")


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """The address in a proxy's notation, such as ``[2001:db8::1]:443`` or ``203.0.113.7:443``."""
    if len(text) > _LONGEST_ADDRESS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


_parse_peer = lru_cache(1_024)(_parse)  # of servers and not of fields that clients send


@lru_cache(1_024)
def _account(address: IPv4Address | IPv6Address | None, ipv6_prefix: int) -> str:
    if address is None:
        return f"{_ADDRESS}unknown"
    if address.version == _IPV6:
        return f"{_ADDRESS}{ip_network((address, ipv6_prefix), strict=False)}"
    return f"{_ADDRESS}{address}"
