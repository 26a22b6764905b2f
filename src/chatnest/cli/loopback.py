"""Whether a host is this machine by its own name or address. No I/O."""

from ipaddress import ip_address

__all__ = ["is_loopback"]


def is_loopback(host: str) -> bool:
    """``localhost`` (RFC 6761), or an address of the loopback without brackets; no name besides,
    since anybody can have theirs lead here.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
