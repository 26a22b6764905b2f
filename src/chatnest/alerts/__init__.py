"""Alerts: warn operators when a budget reaches a threshold of its ``warn_at``."""

from chatnest.alerts.warning import BudgetWarning, OnWarning
from chatnest.alerts.webhook import Webhook, WebhookError

__all__ = ["BudgetWarning", "OnWarning", "Webhook", "WebhookError"]
