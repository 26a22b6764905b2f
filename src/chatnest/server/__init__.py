"""The server of ``chatnest serve``, and Protocol: ``uvicorn --http chatnest.server:Protocol``."""

from chatnest.server.protocol import BoundedProtocol as Protocol

__all__ = ["Protocol"]
