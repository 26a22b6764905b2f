"""The roll-up in the columns of FOCUS 1.0, a specification for bills: https://focus.finops.org."""

import csv
import sys
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from chatnest.amounts import amount_text
from chatnest.cli.output import harmless
from chatnest.ledger.usage import Used

__all__ = ["BY", "write_focus"]

BY: Final = ("day", "principal", "model", "groups")
"""The names by which rows of the export are grouped."""

_WHO: Final = "chatnest"
_NULL: Final = ""

_COLUMNS: Final = (
    *("AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName"),
    *("BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory"),
    *("ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd"),
    *("ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId"),
    *("CommitmentDiscountName", "CommitmentDiscountStatus", "CommitmentDiscountType"),
    *("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice"),
    *("EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory"),
    *("PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId"),
    *("RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory"),
    *("ServiceName", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags"),
)


def write_focus(used: Iterable[Used], currency: str) -> None:
    """Write a row for each day, principal, model and set of groups, as CSV to standard output."""
    out = csv.DictWriter(sys.stdout, _COLUMNS, restval=_NULL, lineterminator="\n")
    out.writeheader()
    for each in used:
        out.writerow(_row(each, currency))


def _row(used: Used, currency: str) -> dict[str, str | int]:
    day, principal, model, groups = used.by
    name, sku = harmless(principal) or "unknown", harmless(model) or "unknown"
    begins = date.fromisoformat(day)
    month = begins.replace(day=1)
    cost, tokens = amount_text(used.use.money), used.use.tokens
    costs = dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)
    names = dict.fromkeys(
        (
            *("BillingAccountId", "BillingAccountName", "InvoiceIssuerName", "ProviderName"),
            *("PublisherName", "ServiceName"),
        ),
        _WHO,
    )
    return {
        **costs,
        **names,
        "BillingCurrency": currency,
        "BillingPeriodStart": _midnight(month),
        "BillingPeriodEnd": _midnight((month + timedelta(days=31)).replace(day=1)),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{used.use.turns} turns of {sku}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _midnight(begins),
        "ChargePeriodEnd": _midnight(begins + timedelta(days=1)),
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "PricingCategory": "Standard",
        "PricingQuantity": tokens,
        "PricingUnit": "Tokens",
        "ResourceId": sku,
        "ResourceName": sku,
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "SkuId": sku,
        "SkuPriceId": sku,
        "SubAccountId": name,
        "SubAccountName": name,
        "Tags": groups,
    }


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
