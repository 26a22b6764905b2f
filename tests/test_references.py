"""A schema with references is counted as a provider may read it: with each one replaced."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.errors import InvalidRequest
from chatnest.tokens import tokenizer
from chatnest.tokens.tool_bounds import ToolCaps, definitions
from tests.test_tool_bounds import SCHEMAS, bound, compact, rendered, tokens, tool

__all__ = ["tokens"]

LONG = "an address of somebody, with all that belongs to it " * 20
ADDRESS = {"type": "object", "description": LONG, "properties": {"street": {"type": "string"}}}


def pointing(*pointers: str, **more: Any) -> dict[str, Any]:
    """A tool whose parameters are references."""
    properties = {f"p{number}": {"$ref": pointer} for number, pointer in enumerate(pointers)}
    return tool("f", None, {"type": "object", "properties": properties, **more})


def inlined(node: Any, root: Any, path: tuple[str, ...] = ()) -> Any:
    """As gateways do it whose models know no references. A recursion stays a reference."""
    if type(node) is list:
        return [inlined(each, root, path) for each in node]
    if type(node) is not dict:
        return node
    beside = {k: inlined(v, root, path) for k, v in node.items() if k not in {"$ref", "$defs"}}
    pointer = node.get("$ref")
    if not isinstance(pointer, str):
        return beside
    if pointer in path:
        return {"$ref": pointer, **beside}
    target = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        target = target[step.replace("~1", "/").replace("~0", "~")]
    return {**inlined(target, root, (*path, pointer)), **beside}


def parameters(tool: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tool["function"]["parameters"]
    return found


def replaced(tool: dict[str, Any]) -> dict[str, Any]:
    root = parameters(tool)
    return {**tool, "function": {**tool["function"], "parameters": inlined(root, root)}}


EXPANDED = {
    "one": pointing("#/$defs/a", **{"$defs": {"a": ADDRESS}}),
    "one, forty times": pointing(*["#/$defs/a"] * 40, **{"$defs": {"a": ADDRESS}}),
    "in the older place": pointing(*["#/definitions/a"] * 5, definitions={"a": ADDRESS}),
    "within another": pointing(
        *["#/$defs/a"] * 4,
        **{
            "$defs": {
                "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}},
                "b": ADDRESS,
            }
        },
    ),
    "with its own description": tool(
        "f",
        None,
        {
            "type": "object",
            "properties": {
                f"p{n}": {"$ref": "#/$defs/a", "description": "own " * 200} for n in range(4)
            },
            "$defs": {"a": ADDRESS},
        },
    ),
    "with escapes": pointing(*["#/$defs/a~1b~0c"] * 4, **{"$defs": {"a/b~c": ADDRESS}}),
    "to itself": pointing(
        *["#/$defs/a"] * 4,
        **{
            "$defs": {
                "a": {**ADDRESS, "properties": {"next": {"$ref": "#/$defs/a"}}},
            }
        },
    ),
    "to the whole": pointing("#", "#", description=LONG),
}


@pytest.mark.parametrize("name", EXPANDED)
def test_what_a_model_reads_in_place_of_a_reference_is_within_the_bound(name, tokens):
    whole = EXPANDED[name]
    counted = bound(tokens, definitions([compact(whole)]))

    assert tokens(rendered([whole])) <= counted
    assert tokens(rendered([replaced(whole)])) <= counted
    assert tokens(json.dumps(replaced(whole), indent=4)) <= counted
    assert tokens(json.dumps(whole, indent=4)) <= counted


@given(st.lists(SCHEMAS, min_size=1, max_size=4), st.data())
def test_whatever_is_referred_to(schemas, data):
    encoding = tokenizer._ENCODINGS["o200k_base"].load()

    def count(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    names = [f"d{number}" for number in range(len(schemas))]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=6))
    whole = pointing(
        *(f"#/$defs/{name}" for name in chosen),
        **{"$defs": dict(zip(names, schemas, strict=True))},
    )
    counted = bound(count, definitions([compact(whole)]))

    assert count(rendered([replaced(whole)])) <= counted
    assert count(rendered([whole])) <= counted


def test_a_reference_may_be_written_with_escapes(tokens):
    whole = pointing(*["#/$defs/a"] * 40, **{"$defs": {"a": ADDRESS}})
    plain = compact(whole)
    for name in ("\\u0024ref", "$\\u0072ef"):
        escaped = plain.replace("$ref", name)
        assert json.loads(escaped) == whole
        assert bound(tokens, definitions([escaped])) >= bound(tokens, definitions([plain]))


def test_escapes_count_as_they_stand_too():
    whole = pointing("#/$defs/a", description="x", **{"$defs": {"a": {"type": "string"}}})
    text = compact(whole).replace('"x"', '"' + "\\u00e9" * 90 + '"')
    texts = definitions([text]).texts

    assert sum("\\u00e9" * 90 in each for each in texts) == 1
    assert any("é" * 90 in each for each in texts)


@pytest.mark.parametrize(
    "pointer",
    [
        *("https://example.com/schema.json", "#/$defs/missing", "#/type", "#/required/9", "#a"),
        *("", "/", "#/", "#/$defs/a/b/c", "#/%", "#/~", "\u0000"),
    ],
)
def test_a_reference_that_leads_nowhere_is_counted_as_it_stands(pointer):
    text = compact(pointing(pointer, required=["p0"], **{"$defs": {"a": {}}}))
    assert json.loads(definitions([text]).texts[-1]) == json.loads(text)


# ------------------------------------------------ bombs


def fan(levels: int, width: int) -> dict[str, Any]:
    """Each definition has the next one so many times."""
    defs: dict[str, Any] = {
        f"d{n}": {
            "type": "object",
            "properties": {f"p{m}": {"$ref": f"#/$defs/d{n + 1}"} for m in range(width)},
        }
        for n in range(levels)
    }
    return pointing("#/$defs/d0", **{"$defs": {**defs, f"d{levels}": {"type": "string"}}})


def chain(length: int) -> dict[str, Any]:
    """Each definition is the next one."""
    defs: dict[str, Any] = {
        f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(length)
    }
    return pointing("#/$defs/d0", **{"$defs": {**defs, f"d{length}": {"type": "string"}}})


def web(size: int) -> dict[str, Any]:
    """Each definition has all of them."""
    every = {f"p{n}": {"$ref": f"#/$defs/d{n}"} for n in range(size)}
    return pointing(
        "#/$defs/d0",
        **{"$defs": {f"d{n}": {"type": "object", "properties": every} for n in range(size)}},
    )


SIZE = "references to at most 131072 bytes of JSON, each definition as often as it is referred to."


@pytest.mark.parametrize(
    ("bomb", "words"),
    [
        (fan(9, 9), SIZE),
        (fan(40, 2), SIZE),
        (web(30), SIZE),
        (
            chain(1_500),
            "at most 128 levels of nesting, with definitions in place of references.",
        ),
    ],
    ids=["wide", "deep", "woven", "long"],
)
def test_a_bomb_is_refused(bomb, words):
    """It would be as large as the sky. ``definitions`` gives up long before."""
    text = compact(bomb)
    assert len(text) < 100_000
    with pytest.raises(InvalidRequest) as caught:
        definitions([text])

    assert str(caught.value) == f"tools[0]: expected {words}"


def test_all_tools_share_the_room_for_their_references():
    big = pointing(*["#/$defs/a"] * 40, **{"$defs": {"a": ADDRESS}})
    text = compact(big)
    with pytest.raises(InvalidRequest, match=r"^tools\[\d\]: expected references to"):
        definitions([text] * 4)
    assert len(definitions([text] * 4, ToolCaps(size=1_000_000)).texts) > 4
