"""Expected values of the fields that Chat Completions has, by their places in a body. No I/O."""

from typing import Final

from chatnest.wire.caps import MAX_ID, MAX_PARTS, MAX_STOP_CHARACTERS, MAX_STOPS

__all__ = [
    "CONTENT",
    "COUNT",
    "IDENTIFIER",
    "SWITCH",
    "TEXT",
    "calls_at",
    "choice_at",
    "format_at",
    "image_at",
    "sampling_at",
    "tools_at",
]

TEXT: Final = "a string"
COUNT: Final = "a whole number of at least 1"
SWITCH: Final = "true or false"
IDENTIFIER: Final = f"a string of 1 to {MAX_ID} printable characters"
CONTENT: Final = "a string that is not blank, or a list of parts"

_FUNCTION: Final = "'function'"
_PENALTY: Final = "a number from -2 to 2"
_TOOL_NAME: Final = "a name of 1 to 64 letters, digits, '_' and '-'"
_SCHEMA: Final = "a JSON schema, which is an object"
_STOP: Final = (
    f"a string of 1 to {MAX_STOP_CHARACTERS} characters, or a list of at most {MAX_STOPS} of them"
)


def image_at(place: str) -> dict[str, str]:
    """The address of an image."""
    return {
        place: "an object with a url",
        f"{place}.url": "a data: URL of an image, in base64",
        f"{place}.detail": TEXT,
    }


def calls_at(place: str) -> dict[str, str]:
    """The calls of a message."""
    return {
        place: f"a list of at most {MAX_PARTS} calls",
        f"{place}[]": "an object with id, type and function",
        f"{place}[].id": IDENTIFIER,
        f"{place}[].type": _FUNCTION,
        f"{place}[].function": "an object with name and arguments",
        f"{place}[].function.name": IDENTIFIER,
        f"{place}[].function.arguments": "a string, which is usually JSON",
    }


def tools_at(place: str) -> dict[str, str]:
    """The tools of a request."""
    function = f"{place}[].function"
    return {
        place: "a list of tools",
        f"{place}[]": "an object with type and function",
        f"{place}[].type": _FUNCTION,
        function: "an object with name, description and parameters",
        f"{function}.name": _TOOL_NAME,
        f"{function}.description": TEXT,
        f"{function}.parameters": _SCHEMA,
        f"{function}.strict": SWITCH,
    }


def choice_at(place: str) -> dict[str, str]:
    """The choice of a tool."""
    return {
        place: "'auto', 'none', 'required' or an object with type and function",
        f"{place}.type": _FUNCTION,
        f"{place}.function": "an object with a name",
        f"{place}.function.name": "the name of one of the tools",
    }


def format_at(place: str) -> dict[str, str]:
    """The format of the answer."""
    return {
        place: "an object with type, and json_schema if the type is 'json_schema'",
        f"{place}.type": "'text', 'json_object' or 'json_schema'",
        f"{place}.json_schema": "an object with name and schema",
        f"{place}.json_schema.name": _TOOL_NAME,
        f"{place}.json_schema.schema": _SCHEMA,
        f"{place}.json_schema.description": TEXT,
        f"{place}.json_schema.strict": SWITCH,
    }


def sampling_at(top_p: str, presence_penalty: str, frequency_penalty: str) -> dict[str, str]:
    """The fields of the sampling, three of which have the names that the format gives them."""
    return {
        "stop": _STOP,
        "stop[]": f"a string of 1 to {MAX_STOP_CHARACTERS} characters",
        "seed": "a whole number of 64 bits",
        "temperature": "a number from 0 to 2",
        top_p: "a number from 0 to 1",
        presence_penalty: _PENALTY,
        frequency_penalty: _PENALTY,
    }
