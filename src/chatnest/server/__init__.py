"""Protocol: the HTTP/1.1 of ``chatnest serve`` for uvicorn: ``--http chatnest.server:Protocol``."""

from chatnest.cli.protocol import BoundedProtocol as Protocol

__all__ = ["Protocol"]
