"""The log-ins of docs/how-to/identity.md: a session cookie, and a JWT."""

import sys
from types import ModuleType
from typing import Any

import jwt
import pytest

from chatnest.testing import Conversation
from tests.frameworks.pages import examples
from tests.streams.support import ask

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

EXAMPLES = examples("identity.md")


def program(word: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example with this word, as a module."""
    (text,) = [each for each in EXAMPLES if word in each]
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    exec(text, module.__dict__)
    return module


async def answer(api: Any, body: Any = None, **options: Any) -> Conversation:
    async with Conversation(api, json=body, **options) as c:
        await c.read_all()
        await c.finished()
    return c


async def test_the_user_of_a_session_may_ask_and_nobody_else(monkeypatch):
    api = program("SessionMiddleware", monkeypatch).api
    login = await answer(api, {}, path="/login", query="name=ann")
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}

    assert (await answer(api, ask())).status == 401
    assert (await answer(api, ask(), headers=cookie)).status == 200


async def test_the_user_of_a_token_may_ask_until_it_expires(monkeypatch):
    module = program("jwt.decode", monkeypatch)

    def bearer(**claims: Any) -> dict[str, str]:
        token = jwt.encode(claims, module.SECRET, algorithm="HS256")
        return {"authorization": f"Bearer {token}"}

    statuses = [
        (await answer(module.api, ask(), headers=headers)).status
        for headers in (
            bearer(sub="ann", team="mill", exp=4_102_444_800),
            bearer(sub="ann", team="mill", exp=1_700_000_000),
            bearer(sub="ann", team="mill"),
            bearer(sub="ann", exp=4_102_444_800),
            {"authorization": "Bearer guessed"},
            {},
        )
    ]
    assert statuses == [200, 401, 401, 401, 401, 401]
