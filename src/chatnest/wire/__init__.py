"""Wire formats: events in, bytes out. A file each."""

from chatnest.wire.base import Wire
from chatnest.wire.native import NativeWire

__all__ = ["NativeWire", "Wire"]
