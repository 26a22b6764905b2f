"""Identity: a request's principal, from address, header, key or framework; its access. No I/O."""

from chatnest.identity.base import Identify, Identity
from chatnest.identity.keys import BearerKey, BearerKeys
from chatnest.identity.plan_lookup import PlanOf
from chatnest.identity.plans import Plan
from chatnest.identity.principals import (
    ClientAddress,
    TrustedHeader,
    UserOrAddress,
    framework_user,
)

__all__ = [
    "BearerKey",
    "BearerKeys",
    "ClientAddress",
    "Identify",
    "Identity",
    "Plan",
    "PlanOf",
    "TrustedHeader",
    "UserOrAddress",
    "framework_user",
]
