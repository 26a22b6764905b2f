"""Wire formats: events in, bytes out. One file for each format."""

from chatnest.wire.base import Wire
from chatnest.wire.native import NativeWire

__all__ = ["NativeWire", "Wire"]
