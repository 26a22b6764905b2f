"""What a host's name or address tells about where it is. No I/O."""

from ipaddress import ip_address

__all__ = ["is_local", "is_loopback"]


def is_loopback(host: str) -> bool:
    """``localhost`` (RFC 6761), or an address of the loopback without brackets; no name besides,
    since anybody can have theirs lead here.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local(host: str) -> bool:
    """Whether a host is of the operator's own network: this machine, a private address (RFC 1918,
    RFC 4193), or a name of one label, as those of containers.
    """
    try:
        address = ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith((".local", ".internal", ".localhost"))
    return address.is_private or address.is_link_local
