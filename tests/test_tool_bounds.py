"""What is counted for tools is never less than a model reads, and hostile tools cost little."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatnest.errors import InvalidRequest
from chatnest.tokens import tokenizer
from chatnest.tokens.tool_bounds import (
    CALL_TOKENS,
    REQUEST_TOKENS,
    Countable,
    ToolCaps,
    call,
    definitions,
    is_deeper,
    result,
)


@pytest.fixture(scope="module")
def tokens() -> Any:
    """Counts tokens of o200k_base, without a thread."""
    encoding = tokenizer._read_encoding("o200k_base")
    return lambda text: len(encoding.encode_ordinary(text))


def bound(tokens: Any, countable: Countable) -> int:
    counted: int = sum(map(tokens, countable.texts))
    return counted + countable.tokens


def tool(name: str, description: str | None = None, parameters: Any = None) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters}
    return {
        "type": "function",
        "function": {key: value for key, value in function.items() if value is not None},
    }


def compact(tool: Any) -> str:
    return json.dumps(tool, separators=(",", ":"), ensure_ascii=False)


# ---------------------------------------------------------------- how OpenAI's models see tools


def rendered(tools: list[dict[str, Any]]) -> str:
    """Tools in TypeScript, in the format of gpt-oss. What it has at one place only is commented at
    each: every comment is continued in each line, and is indented.
    """
    text = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
    for function in (tool["function"] for tool in tools):
        text += comment(function.get("description", ""), "")
        schema = function.get("parameters")
        takes = f"_: {typescript(schema, '')}" if schema and schema.get("properties") else ""
        text += f"type {function['name']} = ({takes}) => any;\n\n"
    return text + "} // namespace functions"


def comment(text: str, indent: str) -> str:
    return "".join(f"{indent}// {line}\n" for line in text.split("\n")) if text else ""


def default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return ""
    return f"default: {json.dumps(schema['default'], ensure_ascii=False)}"


def typescript(schema: Any, indent: str) -> str:
    if type(schema) is not dict:
        return "any"
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    if "oneOf" in schema:
        return "".join(
            f"\n{indent} | {typescript(one, indent + '   ')} // {one.get('description', '')} "
            f"{default(one)}"
            for one in schema["oneOf"]
        )
    match schema.get("type", "any"):
        case list() as names:
            kind = " | ".join(names)
        case "object":
            kind = typescript_of_object(schema, indent)
        case "array":
            kind = f"{typescript(schema.get('items'), indent)}[]"
        case name:
            kind = "number" if name == "integer" else str(name)
    return kind


def typescript_of_object(schema: dict[str, Any], indent: str) -> str:
    lines = comment(schema.get("description", ""), indent) + "{\n"
    for key, value in schema.get("properties", {}).items():
        mark = "" if key in schema.get("required", ()) else "?"
        if type(value) is dict:
            lines += comment(value["title"] + "\n", indent) if "title" in value else ""
            lines += comment(value.get("description", ""), indent)
            if value.get("examples"):
                lines += f"{indent}// Examples:\n"
                lines += "".join(f'{indent}// - "{e}"\n' for e in value["examples"])
        kind = typescript(value, indent + "    ")
        null = " | null" if type(value) is dict and value.get("nullable") else ""
        after = f" // {default(value)}" if type(value) is dict and "default" in value else ""
        lines += f"{indent}{key}{mark}: {kind}{null},{after}\n"
    return lines + f"{indent}}}"


WEATHER = tool(
    "get_current_weather",
    "Get the current weather in a given location",
    {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            },
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
)


def one_parameter(schema: dict[str, Any], name: str = "p") -> dict[str, Any]:
    return tool("f", None, {"type": "object", "properties": {name: schema}})


def nested(times: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(times):
        schema = {"type": "object", "properties": {"p": schema}}
    return one_parameter(schema)


KNOWN = {
    "one, no parameters": [tool("f")],
    "weather": [WEATHER],
    "twenty with one parameter": [
        tool(f"f{n}", None, one_parameter({"type": "string"})["function"]["parameters"])
        for n in range(20)
    ],
    "a thousand, no parameters": [tool(f"f{n}") for n in range(1_000)],
    "nested deeply": [nested(12)],
    "enum of 50": [one_parameter({"enum": [f"v{n}" for n in range(50)]})],
    "enum of 1,000 numbers": [one_parameter({"enum": list(range(1_000))})],
    "a thousand parameters without a type": [
        tool("f", None, {"type": "object", "properties": {f"p{n}": {} for n in range(1_000)}})
    ],
    "400 CJK characters": [tool("f", "漢字" * 200)],
    "a thousand lines": [tool("f", "a\n" * 1_000)],
    "a thousand empty lines": [one_parameter({"type": "string", "description": "\n" * 1_000})],
    "a thousand lines of an object": [
        one_parameter({"type": "object", "description": "a\n" * 1_000, "properties": {"p": {}}})
    ],
    "a long description of an object": [
        one_parameter({"type": "object", "description": "a word and " * 1_000})
    ],
    "oneOf": [one_parameter({"oneOf": [{"type": "object", "description": "word " * 500}] * 5})],
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_model_reads_is_within_the_bound(name, tokens):
    tools = KNOWN[name]
    countable = definitions([compact(tool) for tool in tools], ToolCaps(tools=1_000))

    assert tokens(rendered(tools)) <= bound(tokens, countable)


@pytest.mark.parametrize("name", ["one, no parameters", "enum of 50"])
def test_compact_json_alone_would_be_too_little(name, tokens):
    tools = KNOWN[name]

    assert tokens(rendered(tools)) > sum(tokens(compact(tool)) for tool in tools)


def test_the_reference_gives_what_users_saw(tokens):
    """The figures for these tools that were published with the reconstruction of the format."""
    assert [tokens(rendered(KNOWN[n])) for n in ("one, no parameters", "weather")] == [20, 62]


TEXT = st.text(max_size=60) | st.sampled_from(
    ["\n" * 30, "line\n" * 10, "a\r\n\tb", '"quoted"', "漢字" * 20, "// no", "   ", "\\n", "\x00"]
)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "number", "integer", "boolean", "null", ["string"]]),
        "description": TEXT,
        "title": TEXT,
        "enum": st.lists(TEXT | st.integers() | st.booleans() | st.none(), min_size=1, max_size=8),
        "default": TEXT | st.integers(),
        "examples": st.lists(TEXT, max_size=3),
        "nullable": st.booleans(),
    },
)


def around(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    beside = {"description": TEXT, "title": TEXT, "nullable": st.booleans()}
    properties = st.dictionaries(st.text(min_size=1, max_size=12), schemas, max_size=4)
    return (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": properties},
            optional={**beside, "required": st.lists(st.text(max_size=5), max_size=3)},
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": schemas}, optional=beside)
        | st.fixed_dictionaries({"oneOf": st.lists(schemas, min_size=1, max_size=3)})
    )


SCHEMAS = st.recursive(LEAVES, around, max_leaves=6)
TOOLS = st.lists(
    st.builds(
        tool,
        st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True),
        st.none() | TEXT,
        st.none()
        | st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(
                    st.text(min_size=1, max_size=12), SCHEMAS, max_size=4
                ),
            }
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(TOOLS, st.booleans())
def test_whatever_the_tools_are(tools, escaped):
    encoding = tokenizer._ENCODINGS["o200k_base"].load()

    def tokens(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    texts = [json.dumps(tool, ensure_ascii=escaped) for tool in tools]

    assert tokens(rendered(tools)) <= bound(tokens, definitions(texts))


# ---------------------------------------------------------------- what is counted


def test_json_is_counted_indented_by_four_as_it_stands():
    text = '{"b":1e2,"a":[true,"\\u00e9"],"a":{}}'

    assert definitions([text]).texts == (
        '{\n    "b": 1e2,\n    "a": [\n        true,\n        "\\u00e9"\n    ],\n    "a": {}\n}',
    )


def test_a_request_without_tools_has_nothing_and_one_with_tools_has_one_allowance():
    assert definitions([]) == Countable()
    assert definitions(["{}"]).tokens == definitions(["{}", "[]"]).tokens == REQUEST_TOKENS


def test_calls_and_results_count_their_texts_and_an_allowance():
    both = call("id", "name", "{not json") + result("id", "42")

    assert both == Countable(("id", "name", "{not json", "id", "42"), 2 * CALL_TOKENS)


def test_a_repr_has_no_text_of_a_client():
    assert repr(call("id", "name", "secret")) == f"Countable(<3 texts>, {CALL_TOKENS})"


# ---------------------------------------------------------------- hostile definitions


def refused(tools: list[str], caps: ToolCaps | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        definitions(tools, caps or ToolCaps())
    return str(caught.value)


DEEP = "[" * 1_000 + "]" * 1_000


@pytest.mark.parametrize(
    ("tools", "error"),
    [
        (["{}"] * 10_000, "tools: expected at most 128, got 10000."),
        (["{}", '"' + "x" * 10_000_000 + '"'], "tools: expected at most 131072 bytes of JSON."),
        (['"' + "x" * 70_000 + '"'] * 2, "tools: expected at most 131072 bytes of JSON."),
        (['"' + "漢" * 50_000 + '"'], "tools: expected at most 131072 bytes of JSON."),
        (["{}", DEEP], "tools[1]: expected at most 32 levels of nesting."),
        (["[" * 100_000], "tools[0]: expected at most 32 levels of nesting."),
        (['{"a":' * 33 + "1" + "}" * 33], "tools[0]: expected at most 32 levels of nesting."),
        (["{}", ""], "tools[1]: expected JSON."),
        (["{'name': 'f'}"], "tools[0]: expected JSON."),
        (['"\ud800"'], "tools[0]: expected JSON."),
        (['{"secret": '], "tools[0]: expected JSON."),
        (["]" * 50 + DEEP], "tools[0]: expected at most 32 levels of nesting."),
        (["]" * 5_000 + DEEP], "tools[0]: expected at most 32 levels of nesting."),
    ],
)
def test_definitions_beyond_a_cap_are_refused(tools, error):
    assert refused(tools) == error


def test_the_error_names_the_field_that_the_caller_names():
    with pytest.raises(InvalidRequest, match=r"^response_format\[0\]: expected JSON\.$"):
        definitions(["x"], field="response_format")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("x" * 10_000_000, "messages[1].tool_calls[0]: expected at most 131072 bytes."),
        ("漢" * 50_000, "messages[1].tool_calls[0]: expected at most 131072 bytes."),
        (DEEP, "messages[1].tool_calls[0]: expected at most 32 levels of nesting."),
    ],
)
def test_arguments_beyond_a_cap_are_refused(arguments, error):
    with pytest.raises(InvalidRequest) as caught:
        ToolCaps().check_arguments(arguments, "messages[1].tool_calls[0]")

    assert str(caught.value) == error


@pytest.mark.parametrize("arguments", ["", "{}", "{not json", "\ud800", "x" * 131_072, "]" * 50])
def test_other_arguments_may_be_any_text(arguments):
    ToolCaps().check_arguments(arguments, "arguments")


def test_definitions_at_the_caps_are_counted():
    assert definitions([*["{}"] * 127, "[" * 32 + "]" * 32]).tokens == REQUEST_TOKENS
    assert definitions(['"' + "x" * 131_070 + '"']).tokens == REQUEST_TOKENS


def nesting(value: Any) -> int:
    children: Iterator[Any] = iter(())
    if isinstance(value, dict):
        children = iter(value.values())
    elif isinstance(value, list):
        children = iter(value)
    else:
        return 0
    return 1 + max(map(nesting, children), default=0)


JSON = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(['"', "\\", '\\"[', "]}", "[{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_depth_is_that_of_the_parsed_value(value, escaped):
    text, depth = json.dumps(value, ensure_ascii=escaped), nesting(value)

    assert [is_deeper(text, most) for most in range(depth + 2)] == [True] * depth + [False] * 2


@pytest.mark.parametrize(
    ("text", "deeper"),
    [
        ("[" * 200_000, True),
        ('"\\' * 200_000, False),
        ('[{"a":' * 100_000, True),
        ("[]" * 65_000, False),
        ("[" * 32 + "]" * 32, False),
        ("[" * 33 + "]" * 33, True),
        ('[{"a": ["b", {"c": "' + "x" * 99, False),  # arguments that broke off
        ('"' + "[" * 99, False),
        ('"\\"' + "[" * 99 + '"', False),
        ('"\\\\"' + "[" * 99, True),
        ("]" * 99, False),
        ("\ud800[", False),
    ],
)
def test_depth_takes_any_text(text, deeper):
    assert is_deeper(text, 32) == deeper


@given(
    st.text(st.characters(exclude_categories=()), max_size=100)
    | st.text('[]{}",:\\1 ', max_size=200)
)
@example("]" * 40 + "[" * 40)
def test_no_text_raises_anything_else(text):
    with suppress(InvalidRequest):
        definitions([text])
