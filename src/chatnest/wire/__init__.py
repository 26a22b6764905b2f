"""Wire formats: how clients speak. One folder for each format."""

from chatnest.asgi.http import Document
from chatnest.wire.ag_ui import AGUIFormat
from chatnest.wire.ai_sdk import AISDKFormat
from chatnest.wire.base import Frames, StreamInfo, WireFormat
from chatnest.wire.formats import Formats, Route
from chatnest.wire.named import FORMAT_NAMES, FormatName, formats_of, named_formats
from chatnest.wire.native import NativeFormat
from chatnest.wire.openai_chat import OpenAIChatFormat
from chatnest.wire.openai_responses import OpenAIResponsesFormat

__all__ = [
    "FORMAT_NAMES",
    "AGUIFormat",
    "AISDKFormat",
    "Document",
    "FormatName",
    "Formats",
    "Frames",
    "NativeFormat",
    "OpenAIChatFormat",
    "OpenAIResponsesFormat",
    "Route",
    "StreamInfo",
    "WireFormat",
    "formats_of",
    "named_formats",
]
