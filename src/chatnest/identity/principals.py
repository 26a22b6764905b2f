"""Principals: the names that limits and costs belong to. No I/O.

``identify(scope)`` returns a principal, an Identity, or None to refuse the request with a 401. It
may be async. Its attribute ``challenge``, if any, becomes the WWW-Authenticate field of that 401.
Each source of names has a prefix of its own, so names from different sources never collide.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
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
    "BearerKeys",
    "ClientAddress",
    "TrustedHeader",
    "UserOrAddress",
    "everybody_like",
    "framework_user",
    "is_anonymous",
]

_MAX_NAME = 256
_MOST_HOPS = 32
"""Maximum hops of X-Forwarded-For that are read, from the right. A client whose address is further
to the left is counted as the last proxy that was read.
"""
_LONGEST_ADDRESS = 64
"""Maximum characters of an address, with its brackets, zone and port."""
_LONGEST_KEY = 4_096
"""Maximum characters of an Authorization field."""

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
        if not value or len(value) > _MAX_NAME or not value.isprintable():
            return None
        return f"header:{value}"


class BearerKeys:
    """The owner of the key in ``Authorization: Bearer KEY``, such as ``key:ann`` (RFC 6750).

    ``keys`` maps the owner's name to the SHA-256 of a key in hexadecimal, or to several. Use random
    keys: a key that a person chose can be guessed from its hash. Every comparison takes the same
    time. Raises ConfigurationError for an invalid hash, and for a hash that occurs twice.
    """

    challenge: Final = 'Bearer realm="chatnest"'

    def __init__(self, keys: Mapping[str, str | Iterable[str]]) -> None:
        if not isinstance(keys, Mapping):
            raise ConfigurationError(
                f"keys must be a mapping of names to hashes, not {type(keys).__name__}"
            )
        self._owners: list[tuple[bytes, str]] = []
        for name, hashes in keys.items():
            if not name or len(name) > _MAX_NAME or not name.isprintable():
                raise ConfigurationError(
                    f"keys: expected names of 1 to {_MAX_NAME} printable characters, got "
                    f"{name[:_MAX_NAME]!r}."
                )
            for each in [hashes] if isinstance(hashes, str) else hashes:
                self._owners.append((_digest_of(name, each), f"key:{name}"))
        if len({digest for digest, _ in self._owners}) != len(self._owners):
            raise ConfigurationError("keys: expected a different hash for each key, got one twice.")

    def __call__(self, scope: Scope) -> str | None:
        values = headers_named(scope, b"authorization")
        if len(values) != 1 or len(values[0]) > _LONGEST_KEY:
            return None
        scheme, _, key = values[0].partition(" ")
        digest = hashlib.sha256(key.strip(" \t").encode("latin-1")).digest()
        owner = None
        for known, name in self._owners:
            if hmac.compare_digest(known, digest):
                owner = name
        return owner if scheme.lower() == "bearer" else None


def _digest_of(name: str, written: object) -> bytes:
    digest = written.removeprefix("sha256:") if isinstance(written, str) else ""
    if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):  # noqa: PLR2004  # SHA-256
        raise ConfigurationError(
            f"keys[{name!r}]: expected the SHA-256 of a key in hexadecimal, got another value. "
            f"`chatnest key {name}` makes a key and its hash."
        )
    return bytes.fromhex(digest)


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
