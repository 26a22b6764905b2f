"""Host names and addresses: whether they belong to this machine or a local network. No I/O."""

from ipaddress import ip_address

__all__ = ["is_local", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether a host is ``localhost`` (RFC 6761) or a loopback address without brackets.

    Other names never count: anyone can point their own domain at 127.0.0.1 (DNS rebinding).
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local(host: str) -> bool:
    """Whether a host is in the operator's own network: this machine, a private address (RFC 1918,
    RFC 4193), or a name of one label, such as a container's.
    """
    try:
        address = ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith((".local", ".internal", ".localhost"))
    return address.is_private or address.is_link_local
