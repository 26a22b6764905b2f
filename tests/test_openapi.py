"""The OpenAPI document of a chat: valid, complete, and made from the types."""

import json
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from chatnest import BearerKeys, ChatNestApp, ChatNestMiddleware, DemoProvider
from chatnest.testing import Conversation
from chatnest.wire import FORMAT_NAMES
from tests.support.plain_format import Plain

PAGE = Path(__file__).parents[1] / "docs/how-to/formats.md"


def chat(**options) -> ChatNestApp:
    return ChatNestApp(provider=DemoProvider(), **options)


@pytest.mark.parametrize(("formats", "path"), [(FORMAT_NAMES, "/api/chat"), ([Plain()], "")])
def test_the_document_is_valid(formats, path):
    document = chat(formats=formats).openapi(path)

    OpenAPIV31SpecValidator(document).validate()
    assert json.loads(json.dumps(document)) == document


def test_it_has_every_path_and_the_schema_of_each_body():
    document = chat(formats=[*FORMAT_NAMES, Plain()]).openapi("/api/chat")

    assert set(document["paths"]["/api/chat/plain/{conversation}/stream"]) == {"get", "delete"}
    assert set(document["paths"]) >= {
        *("/api/chat", "/api/chat/limits", "/api/chat/usage", "/api/chat/plain/models")
    }
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["responses"].keys() & {"200", "204"}, path
    posted = document["paths"]["/api/chat/plain"]["post"]["requestBody"]["content"]
    reference = posted["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["properties"]) == {"chat", "text", "again", "stream", "empty"}


def test_keys_are_a_security_scheme():
    keys = BearerKeys({"ann": "sha256:" + "0" * 64})

    assert "security" not in chat().openapi()
    assert chat(identify=keys).openapi()["security"] == [{"key": []}]


@pytest.mark.anyio
@pytest.mark.parametrize("mounted", [True, False])
async def test_it_is_served_with_the_paths_of_the_mount(mounted):
    app = chat()
    served = app if mounted else ChatNestMiddleware(app, chat=app, path="/api/chat")
    path = "/api/chat/openapi.json"
    root = "/api/chat" if mounted else ""
    async with Conversation(served, method="GET", path=path, root_path=root) as c:
        await c.read_all()
    async with Conversation(served, method="POST", path=path, root_path=root) as posted:
        await posted.read_all()

    assert (c.status, posted.status) == (200, 405)
    assert json.loads(c.received) == app.openapi("/api/chat")


def test_fastapi_users_can_merge_it_as_the_page_shows():
    pytest.importorskip("fastapi")
    (program,) = [
        text
        for text in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        if "api.openapi" in text
    ]
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(program, str(PAGE), "exec"), names)
    documents = [names["api"].openapi() for _ in range(2)]  # type: ignore[attr-defined]  # FastAPI

    assert documents[0] == documents[1]
    assert documents[0]["paths"].keys() >= {"/hello", "/api/chat", "/api/chat/v1/chat/completions"}
    OpenAPIV31SpecValidator(documents[0]).validate()
