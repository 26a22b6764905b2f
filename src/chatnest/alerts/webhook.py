"""Webhook: posts warnings as signed requests, in the form of Standard Webhooks.

The specification is at https://github.com/standard-webhooks/standard-webhooks.
"""

import binascii
import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec

from chatnest.alerts.warning import BudgetWarning
from chatnest.amounts import amount_text
from chatnest.errors import ConfigurationError
from chatnest.providers.http.client import Connections
from chatnest.providers.http.network import ServerSettings, fault_of_address, without_user

__all__ = ["Webhook", "WebhookError"]

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
"""Lengths that the specification allows for a secret."""


class WebhookError(Exception):
    """The receiver did not accept a warning: its status was not 2xx."""


class Webhook:
    """Posts warnings to ``url``: an ``on_warning`` for ChatNestApp.

    Each request has the header fields ``webhook-id`` (the id of the warning), ``webhook-timestamp``
    and ``webhook-signature`` (HMAC-SHA256 of both fields and the body). ``secret`` is ``whsec_``
    and 24 to 64 bytes in Base64, or a list of several secrets during a change of secrets.
    ``clock`` returns seconds since the epoch. Redirects are not followed.

    Raises ConfigurationError, whose text never contains the secret. A call raises WebhookError,
    UpstreamUnavailable or UpstreamTimeout.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str],
        server: ServerSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if fault := fault_of_address(url):
            raise ConfigurationError(
                f"webhook: {fault}, got {without_user(url.partition('?')[0])!r}. Correct it."
            )
        self._url = url
        self._keys = [_key(each) for each in ([secret] if isinstance(secret, str) else secret)]
        if not self._keys:
            raise ConfigurationError("secret: expected at least one secret, got none. Add one.")
        self._server = server
        self._clock = clock

    def __repr__(self) -> str:
        return f"Webhook({without_user(self._url.partition('?')[0])!r})"

    async def __call__(self, warning: BudgetWarning) -> None:
        """Post a warning once."""
        body = msgspec.json.encode(_document(warning))
        stamp = str(int(self._clock()))
        signed = f"{warning.id}.{stamp}.".encode() + body
        signatures = [b64encode(hmac.digest(key, signed, "sha256")).decode() for key in self._keys]
        headers = {
            "accept": "*/*",
            "user-agent": "chatnest",
            "webhook-id": warning.id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }
        connections = Connections(self._url, headers=headers, server=self._server)
        try:
            async with connections.open(body) as response:
                status = response.status
        finally:
            await connections.aclose()
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise WebhookError(f"the receiver answered with status {status}")


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _SECRET_BYTES:
        raise ConfigurationError(
            f"secret: expected {_PREFIX} and {_SECRET_BYTES[0]} to {_SECRET_BYTES[-1]} bytes in "
            "Base64, got another text. Make one with `openssl rand -base64 32`."
        )
    return key


def _document(warning: BudgetWarning) -> dict[str, Any]:
    at = datetime.fromtimestamp(warning.at / 1000, UTC).isoformat(timespec="milliseconds")
    is_money = warning.unit == "money"
    data: dict[str, Any] = {
        "limit": warning.limit,
        "account": {"kind": warning.kind, "name": warning.name},
        "window": warning.window,
        "threshold": warning.threshold,
        "unit": warning.unit,
        "used": amount_text(warning.used) if is_money else warning.used,
        "amount": amount_text(warning.amount) if is_money else warning.amount,
    }
    if is_money:
        data["currency"] = warning.currency
    return {"type": "budget.warning", "timestamp": at.replace("+00:00", "Z"), "data": data}
