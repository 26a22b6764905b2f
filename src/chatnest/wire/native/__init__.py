"""The native format of chat-nest: its requests, and the frames of its streams."""

from chatnest.wire.native.frames import NativeWire
from chatnest.wire.native.request import parse_request, profile_name

__all__ = ["NativeWire", "parse_request", "profile_name"]
