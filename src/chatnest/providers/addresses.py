"""Whether a server is one's own, by its address. No I/O."""

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["is_local"]


def is_local(url: str) -> bool:
    """Whether the host is this machine, a private address, or a name of one label, as containers
    have it.
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    try:
        address = ip_address(host)
    except ValueError:
        return bool(host) and "." not in host
    return address.is_loopback or address.is_private or address.is_link_local
