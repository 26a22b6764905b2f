"""The format keeps the contract of all formats."""

import json

from chatnest.testing import FormatContract
from chatnest.wire import OpenAIResponsesFormat, WireFormat
from tests.wire.openai_responses.support import read


class TestOpenAIResponses(FormatContract):
    body = json.dumps({"input": "Any bread?"}).encode()

    def make(self) -> WireFormat:
        return OpenAIResponsesFormat()

    def text(self, stream: bytes) -> str:
        pieces = [e for e in read(stream) if e["type"] == "response.output_text.delta"]
        return "".join(event["delta"] for event in pieces)

    def ending(self, stream: bytes) -> object:
        last = read(stream)[-1]
        match last["type"]:
            case "response.completed" | "response.incomplete":
                return last["type"]
            case "error":
                return last["error"]["code"]
            case _:
                return None
