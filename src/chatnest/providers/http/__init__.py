"""The connections to a model's server, within bounds. They know HTTP, and no model."""

from chatnest.providers.http.client import Connections
from chatnest.providers.http.event_response import EventResponse
from chatnest.providers.http.network import ServerSettings

__all__ = ["Connections", "EventResponse", "ServerSettings"]
