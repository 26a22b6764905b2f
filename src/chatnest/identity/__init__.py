"""Identity: who is asking, by address, header, key or framework, and what they may use. No I/O."""

from chatnest.identity.principals import (
    BearerKeys,
    ClientAddress,
    Identify,
    TrustedHeader,
    UserOrAddress,
    framework_user,
)

__all__ = [
    "BearerKeys",
    "ClientAddress",
    "Identify",
    "TrustedHeader",
    "UserOrAddress",
    "framework_user",
]
