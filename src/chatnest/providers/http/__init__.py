"""The connections to a model's server, within bounds. They know HTTP, and no model."""

from chatnest.providers.http.client import Connections, EventResponse
from chatnest.providers.http.network import ServerSettings

__all__ = ["Connections", "EventResponse", "ServerSettings"]
