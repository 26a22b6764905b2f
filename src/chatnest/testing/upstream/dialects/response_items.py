"""The output items of the Responses API, each as its events from `added` to `done`. No I/O."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, assert_never

from chatnest.testing.upstream.parts import (
    Block,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)

__all__ = ["ItemEvent", "item_events", "items_of"]

Json: TypeAlias = dict[str, Any]
_Said: TypeAlias = Generator["ItemEvent", None, Json]


class ItemEvent(NamedTuple):
    """An event without its number."""

    name: str
    fields: Json
    is_piece: bool = False


def items_of(blocks: Iterable[Block]) -> list[list[Block]]:
    """Return the blocks of each item: consecutive texts are a message, thoughts a reasoning."""
    items: list[list[Block]] = []
    for block in blocks:
        if items and _joins(items[-1][-1].part, block.part):
            items[-1].append(block)
        else:
            items.append([block])
    return items


def item_events(item: Sequence[Block], index: int, number: int, status: str) -> Iterator[ItemEvent]:
    """Yield the events of an item of response `number`. `status` is that of a complete item."""
    part = item[0].part
    place = {"output_index": index}
    suffix = f"{number:08d}_{index}"
    match part:
        case Text() | Refusal():
            events = _message({"id": f"msg_{suffix}", "type": "message"}, item, place, status)
        case Thinking() | RedactedThinking():
            events = _reasoning({"id": f"rs_{suffix}", "type": "reasoning"}, item, place)
        case ToolCall():
            events = _call({"id": f"fc_{suffix}", "type": "function_call"}, part, place, status)
        case _:
            assert_never(part)
    return events


def _joins(before: object, part: object) -> bool:
    if isinstance(before, Thinking) and isinstance(part, Thinking):
        return before.signature is None and before.raw == part.raw
    return isinstance(before, Text | Refusal) and isinstance(part, Text | Refusal)


def _message(head: Json, item: Sequence[Block], place: Json, status: str) -> Iterator[ItemEvent]:
    content: list[Json] = []
    head |= {"role": "assistant"}
    yield _added(place, head | {"status": "in_progress", "content": []})
    for block in item:
        at = {"item_id": head["id"], **place, "content_index": len(content)}
        said = _refusal if isinstance(block.part, Refusal) else _text
        content.append((yield from said(block, at)))
    yield _done(place, head | {"status": status, "content": content})


def _text(block: Block, at: Json) -> _Said:
    empty: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    yield ItemEvent("response.content_part.added", at | {"part": empty})
    at_text = at | {"logprobs": []}
    whole = yield from _deltas("response.output_text.delta", block, at_text)
    annotations = [
        {
            "type": "url_citation",
            "start_index": source.start,
            "end_index": end,
            "title": source.title,
            "url": source.url,
        }
        for source, end in block.annotations(whole)
    ]
    for number, annotation in enumerate(annotations):
        which = at | {"annotation_index": number, "annotation": annotation}
        yield ItemEvent("response.output_text.annotation.added", which)
    yield ItemEvent("response.output_text.done", at_text | {"text": whole})
    part = empty | {"text": whole, "annotations": annotations}
    yield ItemEvent("response.content_part.done", at | {"part": part})
    return part


def _refusal(block: Block, at: Json) -> _Said:
    return _content("refusal", "refusal", block, at)


def _reasoning(head: Json, item: Sequence[Block], place: Json) -> Iterator[ItemEvent]:
    seal = _seal(item[-1])
    # As in the API, the value in `added` is not complete yet.
    early = {} if seal is None else {"encrypted_content": seal[: len(seal) // 2]}
    head |= {"summary": []}
    yield _added(place, head | early)
    thoughts: dict[str, list[Json]] = {}
    for block in item:
        part = block.part
        if isinstance(part, Thinking) and part.text:
            said, field = (_raw, "content") if part.raw else (_summary, "summary")
            done = thoughts.setdefault(field, [])
            at = {"item_id": head["id"], **place, f"{field}_index": len(done)}
            done.append((yield from said(block, at)))
    late = {} if seal is None else {"encrypted_content": seal}
    yield _done(place, head | thoughts | late)


def _summary(block: Block, at: Json) -> _Said:
    kind = "response.reasoning_summary"
    empty = {"type": "summary_text", "text": ""}
    yield ItemEvent(f"{kind}_part.added", at | {"part": empty})
    text = yield from _deltas(f"{kind}_text.delta", block, at)
    yield ItemEvent(f"{kind}_text.done", at | {"text": text})
    part = empty | {"text": text}
    yield ItemEvent(f"{kind}_part.done", at | {"part": part})
    return part


def _raw(block: Block, at: Json) -> _Said:
    return _content("reasoning_text", "text", block, at)


def _content(kind: str, field: str, block: Block, at: Json) -> _Said:
    """A part of an item's content, whose text is in ``field``."""
    empty = {"type": kind, field: ""}
    yield ItemEvent("response.content_part.added", at | {"part": empty})
    text = yield from _deltas(f"response.{kind}.delta", block, at)
    yield ItemEvent(f"response.{kind}.done", at | {field: text})
    part = empty | {field: text}
    yield ItemEvent("response.content_part.done", at | {"part": part})
    return part


def _seal(block: Block) -> str | None:
    if isinstance(block.part, RedactedThinking):
        return block.part.data
    return block.part.signature if isinstance(block.part, Thinking) else None


def _call(head: Json, part: ToolCall, place: Json, status: str) -> Iterator[ItemEvent]:
    head |= {"call_id": part.id, "name": part.name}
    yield _added(place, head | {"status": "in_progress", "arguments": ""})
    at = {"item_id": head["id"], **place}
    kind = "response.function_call_arguments"
    arguments = yield from _deltas(f"{kind}.delta", Block(part), at)
    yield ItemEvent(f"{kind}.done", at | {"name": part.name, "arguments": arguments})
    yield _done(place, head | {"status": status, "arguments": arguments})


def _deltas(name: str, block: Block, at: Json) -> Generator[ItemEvent, None, str]:
    """Yield the deltas of a block, and return them as one string."""
    said: list[str] = []
    for delta in () if isinstance(block.part, RedactedThinking) else block.part.deltas():
        said.append(delta)
        yield ItemEvent(name, at | {"delta": delta}, is_piece=True)
    return "".join(said)


def _added(place: Json, item: Json) -> ItemEvent:
    return ItemEvent("response.output_item.added", place | {"item": item})


def _done(place: Json, item: Json) -> ItemEvent:
    return ItemEvent("response.output_item.done", place | {"item": item})
