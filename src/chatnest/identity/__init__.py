"""Identity: a request's principal, from address, header, key or framework; its access. No I/O."""

from chatnest.identity.base import Identify, Identity
from chatnest.identity.principals import (
    BearerKeys,
    ClientAddress,
    TrustedHeader,
    UserOrAddress,
    framework_user,
)

__all__ = [
    "BearerKeys",
    "ClientAddress",
    "Identify",
    "Identity",
    "TrustedHeader",
    "UserOrAddress",
    "framework_user",
]
