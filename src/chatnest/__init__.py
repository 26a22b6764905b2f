"""An LLM chat behind your own endpoint: streamed, limited, cancellable; under any framework."""

from chatnest.accounting.local_books import WhenAway
from chatnest.app import ChatNestApp
from chatnest.bounds import Bounds
from chatnest.conversation import Image, Message, Text, ToolCall, ToolResult
from chatnest.endings import StopAnswer
from chatnest.errors import ChatNestError, ConfigurationError
from chatnest.identity.base import Identity
from chatnest.identity.keys import BearerKey, BearerKeys
from chatnest.identity.plans import Plan
from chatnest.identity.principals import ClientAddress, TrustedHeader, UserOrAddress
from chatnest.ledger import Ledger, Limit, MemoryLedger
from chatnest.middleware import ChatNestMiddleware
from chatnest.models import Model
from chatnest.policies import Policy, standard_policies
from chatnest.profiles import ASSISTANT, BALANCED, CONSTRAINED, EXPANDED, HardCaps, Profile
from chatnest.providers import (
    AnthropicProvider,
    DemoProvider,
    ModelParameters,
    OpenAIProvider,
    OpenAIResponsesProvider,
    Provider,
    ServerSettings,
)
from chatnest.requests import ChatRequest, ModelRequest, OutputFormat, Sampling, Tool, ToolChoice
from chatnest.runs import MemoryRunLog, RunLog, RunSettings
from chatnest.telemetry import Observer
from chatnest.turn import ModelCall, Turn
from chatnest.wire import Document, Frames, NativeFormat, StreamInfo, WireFormat

__all__ = [
    "ASSISTANT",
    "BALANCED",
    "CONSTRAINED",
    "EXPANDED",
    "AnthropicProvider",
    "BearerKey",
    "BearerKeys",
    "Bounds",
    "ChatNestApp",
    "ChatNestError",
    "ChatNestMiddleware",
    "ChatRequest",
    "ClientAddress",
    "ConfigurationError",
    "DemoProvider",
    "Document",
    "Frames",
    "HardCaps",
    "Identity",
    "Image",
    "Ledger",
    "Limit",
    "MemoryLedger",
    "MemoryRunLog",
    "Message",
    "Model",
    "ModelCall",
    "ModelParameters",
    "ModelRequest",
    "NativeFormat",
    "Observer",
    "OpenAIProvider",
    "OpenAIResponsesProvider",
    "OutputFormat",
    "Plan",
    "Policy",
    "Profile",
    "Provider",
    "RunLog",
    "RunSettings",
    "Sampling",
    "ServerSettings",
    "StopAnswer",
    "StreamInfo",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "TrustedHeader",
    "Turn",
    "UserOrAddress",
    "WhenAway",
    "WireFormat",
    "standard_policies",
]
