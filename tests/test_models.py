"""The catalogue of models: which model answers a request, and what its profile allows."""

import json
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from chatnest import ChatNestApp, ConfigurationError, NativeFormat
from chatnest.conversation import Image, Message, Text
from chatnest.events import Delta, Finish, Usage
from chatnest.ledger.memory import MemoryLedger
from chatnest.models import Catalogue, Model
from chatnest.profiles import BALANCED, CONSTRAINED, DEFAULT_PROFILES, EXPANDED, Profile
from chatnest.requests import ChatRequest, OutputFormat, Sampling, Tool, ToolChoice
from chatnest.testing import Conversation, chat_nest_client
from chatnest.tokens import Tokenizer
from tests.streams.support import Books

pytestmark = pytest.mark.anyio


class Recorder:
    """A provider of several models, which records what it is asked."""

    def __init__(self, model: str = "gpt-4o", *, is_local: bool = False) -> None:
        self.model = model
        self.counter: Any = Tokenizer.for_model(model)
        self.is_local = is_local
        self.asked: list[Any] = []
        self.closed = 0
        self.fails_to_close = False

    @asynccontextmanager
    async def open(self, call):
        self.asked.append(call.request)
        call.sent = True
        yield self._answer()

    async def _answer(self):
        yield [Delta("Hello"), Finish("stop"), Usage(input_tokens=9, output_tokens=1)]

    async def aclose(self):
        self.closed += 1
        if self.fails_to_close:
            raise RuntimeError("it does not close")


class Given(NativeFormat):
    """A format whose every request is the one that the test gives."""

    def __init__(self, **request: Any) -> None:
        super().__init__()
        request.setdefault("messages", (Message.of("user", "Hi"),))
        request = ChatRequest(**request)  # type: ignore[assignment]
        self.parse = lambda *_: request  # type: ignore[assignment]


def changed(profile: Profile = BALANCED, **fields: Any) -> Profile:
    return msgspec.structs.replace(profile, **fields)


async def asked(
    models: Any = None, *, options: dict[str, Any] | None = None, **request: Any
) -> tuple[int, Any, Recorder]:
    """The status, the problem's sentence or None, and the provider that was asked."""
    provider = Recorder()
    if models is None:
        models = {"m": Model(provider=provider)}
    elif isinstance(models, list):
        models = {name: Model(provider=provider, model=f"{name}-upstream") for name in models}
    chat = ChatNestApp(models=models, formats=[Given(**request)], **(options or {}))
    async with Conversation(chat, json={}) as c:
        body = await c.read_all()
        status = c.status
    await chat.aclose()
    if status != 200:
        document = json.loads(body)
        return status, (document["code"], document["detail"]), provider
    assert chat_nest_client(body).done
    return status, None, provider


# ---------------------------------------------------------------- which model answers

SMALL, LARGE, EXTRA = "small", "large", "extra"
PROFILES = (
    changed(CONSTRAINED, models=(SMALL,)),
    changed(BALANCED, models=(LARGE, SMALL)),
    changed(EXPANDED, models=(EXTRA, LARGE)),
)
PROVIDER = Recorder()
MODELS = {
    SMALL: Model(provider=PROVIDER, model="small-upstream", aliases=("tiny",)),
    LARGE: Model(provider=PROVIDER, model="large-upstream", aliases=("gpt-4o",)),
    EXTRA: Model(provider=PROVIDER, model="extra-upstream", aliases=("balance",)),
}
OPEN = {"profiles": PROFILES, "allowed_profiles": ["constrained", "balanced", "expanded"]}


class Seen:
    """A policy that notes the profile and the model of each turn."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, str]] = []

    async def prepare(self, turn):
        self.turns.append((turn.profile.name, turn.model))


async def answered(options: dict[str, Any] | None = None, **request: Any) -> tuple[str, str, str]:
    """The profile, the model's name, and its upstream name as the provider got it."""
    seen = Seen()
    PROVIDER.asked.clear()
    status, problem, _ = await asked(
        MODELS, options={**OPEN, "policies": [seen], **(options or {})}, **request
    )
    assert (status, problem) == (200, None)
    return *seen.turns[0], PROVIDER.asked[0].model


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({}, ("balanced", LARGE)),  # the default profile, and its first model
        ({"profile": "expanded"}, ("expanded", EXTRA)),
        ({"model": SMALL}, ("balanced", SMALL)),  # the default profile has it, before others
        ({"model": "tiny"}, ("balanced", SMALL)),
        ({"model": "gpt-4o"}, ("balanced", LARGE)),
        ({"model": EXTRA}, ("expanded", EXTRA)),  # no other profile has it
        ({"model": SMALL, "profile": "constrained"}, ("constrained", SMALL)),
        ({"model": "constrained"}, ("constrained", SMALL)),  # the name of a profile
        ({"model": "budget"}, ("constrained", SMALL)),  # its name in old clients
        ({"model": "expanded"}, ("expanded", EXTRA)),
    ],
    ids=str,
)
async def test_the_model_of_a_request_is_found_by_one_rule(request_, found):
    profile, model, upstream = await answered(**request_)
    assert (profile, model) == found
    assert upstream == f"{model}-upstream"


async def test_a_model_comes_before_a_profile_of_the_same_name():
    models = {**MODELS, "constrained": Model(provider=PROVIDER, model="odd-upstream")}
    profiles = (PROFILES[0], changed(BALANCED, models=(LARGE, "constrained")), PROFILES[2])
    PROVIDER.asked.clear()
    status, *_ = await asked(models, options={**OPEN, "profiles": profiles}, model="constrained")
    assert (status, PROVIDER.asked[0].model) == (200, "odd-upstream")


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({"model": "none"}, "large, small, extra"),  # those of the default profile first
        ({"model": "large-upstream"}, "large, small, extra"),  # no name for clients
        ({"model": "LARGE"}, "large, small, extra"),
        ({"model": ""}, "large, small, extra"),
        ({"model": LARGE, "profile": "constrained"}, "small"),
        ({"model": "balanced", "profile": "constrained"}, "small"),
    ],
    ids=str,
)
async def test_another_name_is_refused_with_the_open_ones(request_, names):
    status, problem, _ = await asked(MODELS, options=OPEN, **request_)
    assert (status, problem) == (404, ("model_not_found", f"model: must be one of {names}."))


async def test_models_of_closed_profiles_are_unknown():
    options = {**OPEN, "allowed_profiles": ["constrained", "balanced"]}
    for name in (EXTRA, "expanded"):
        status, problem, _ = await asked(MODELS, options=options, model=name)
        assert (status, problem) == (
            404,
            ("model_not_found", "model: must be one of large, small."),
        )


async def test_a_model_of_a_closed_profile_is_served_by_one_that_is_open():
    options = {"allowed_profiles": ["constrained"]}
    assert (await answered(options, model="tiny"))[:2] == ("constrained", SMALL)


@pytest.mark.parametrize("name", ["default", "gpt-4o"])
async def test_the_only_model_has_its_upstream_name_and_default(name):
    provider = Recorder("gpt-4o")
    chat = ChatNestApp(provider=provider, formats=[Given(model=name)])
    async with Conversation(chat, json={}) as c:
        assert chat_nest_client(await c.read_all()).done
    await chat.aclose()
    assert provider.asked[0].model == "gpt-4o"


# ---------------------------------------------------------------- what a profile allows

TOOL = Tool(name="look_up")
IMAGE = Image(media_type="image/png", data="aGVsbG8=", width=64, height=64)
SEEN = (Message("user", (Text("What is it?"), IMAGE)),)
ALLOWED_EVERYTHING = {
    "tools": True,
    "images": True,
    "structured_output": True,
    "stop": True,
    "seed": True,
    "sampling": True,
    "max_reasoning_effort": "medium",
    "max_tokens_per_request": 8_000,
}

PERMISSIONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "tools": ({"tools": True}, {"tools": (TOOL,)}, "tools"),
    "an output format": (
        {"structured_output": True},
        {"output": OutputFormat(schema="{}")},
        "an output format",
    ),
    "JSON of any form": (
        {"structured_output": True},
        {"output": OutputFormat()},
        "an output format",
    ),
    "images": (
        {"images": True, "max_tokens_per_request": 8_000},
        {"messages": SEEN},
        "images",
    ),
    "stop words": ({"stop": True}, {"sampling": Sampling(stop=("\n",))}, "stop words"),
    "a seed": ({"seed": True}, {"sampling": Sampling(seed=0)}, "a seed"),
    "an effort": (
        {"max_reasoning_effort": "medium"},
        {"effort": "medium"},
        "a reasoning effort",
    ),
    "no effort": ({"max_reasoning_effort": "none"}, {"effort": "none"}, "a reasoning effort"),
    **{
        name: (
            {"sampling": True},
            {"sampling": msgspec.convert({name: 0.5}, Sampling)},
            f"the field {name}",
        )
        for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")
    },
}


def with_profile(**fields: Any) -> dict[str, Any]:
    return {"profiles": [changed(**fields)]}


@pytest.mark.parametrize(("allowed", "request_", "what"), PERMISSIONS.values(), ids=PERMISSIONS)
async def test_a_request_is_served_only_where_its_profile_allows_it(allowed, request_, what):
    status, problem, provider = await asked(options=with_profile(), **request_)
    sentence = f"The profile 'balanced' does not allow {what}."
    assert (status, problem) == (400, ("invalid_request", sentence))
    assert provider.asked == []

    status, problem, provider = await asked(options=with_profile(**allowed), **request_)
    assert (status, problem) == (200, None)
    for field in request_.keys() - {"messages"}:
        assert getattr(provider.asked[0], field) == request_[field]

    others = {**ALLOWED_EVERYTHING, **dict.fromkeys(allowed.keys() & {*ALLOWED_EVERYTHING}, False)}
    others["max_tokens_per_request"] = 8_000
    if "max_reasoning_effort" in allowed:
        others["max_reasoning_effort"] = None
    _, problem, _ = await asked(options=with_profile(**others), **request_)
    assert problem == ("invalid_request", sentence)  # one permission is not another


@pytest.mark.parametrize(
    ("allowed", "request_", "sentence"),
    [
        (
            {"tools": True, "max_tools": 1},
            {"tools": (TOOL, Tool(name="other"))},
            "tools: must be at most 1.",
        ),
        ({"tools": True}, {"tools": (TOOL, TOOL)}, "tools: must have different names."),
        (
            {"tools": True},
            {"tools": (TOOL,), "tool_choice": ToolChoice(mode="required", name="x")},
            "toolChoice: must be the name of one of the tools.",
        ),
        (
            {"images": True, "max_images": 1, "max_tokens_per_request": 8_000},
            {"messages": (Message("user", (Text("?"), IMAGE, IMAGE)),)},
            "messages: must have at most 1 images.",
        ),
        (
            {"max_reasoning_effort": "low"},
            {"effort": "medium"},
            "reasoningEffort: must be one of none, minimal, low.",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_bounds_of_what_is_allowed_are_named(allowed, request_, sentence):
    status, problem, provider = await asked(options=with_profile(**allowed), **request_)
    assert (status, problem) == (400, ("invalid_request", sentence))
    assert provider.asked == []


async def test_a_model_without_a_rule_gets_no_images_and_another_of_the_profile_does():
    provider = Recorder()
    models = {
        "blind": Model(provider=provider, model="llama-3"),
        "seeing": Model(provider=provider, model="llama-4", max_image_tokens=500),
    }
    options = with_profile(images=True)
    status, problem, _ = await asked(models, options=options, messages=SEEN)
    assert (status, problem) == (400, ("invalid_request", "messages: this model takes no images."))

    status, *_ = await asked(models, options=options, messages=SEEN, model="seeing")
    assert (status, provider.asked[0].model) == (200, "llama-4")


async def test_images_are_counted_by_the_rule_of_the_model_that_is_asked():
    provider = Recorder()
    profile = changed(images=True, max_tokens_per_request=1_000)
    models = {
        "cheap": Model(provider=provider, model="llama-4", max_image_tokens=300),
        "dear": Model(provider=provider, model="llama-4", max_image_tokens=990),
    }
    status, *_ = await asked(models, options={"profiles": [profile]}, messages=SEEN, model="cheap")
    assert status == 200
    status, problem, _ = await asked(
        models, options={"profiles": [profile]}, messages=SEEN, model="dear"
    )
    assert (status, problem[0]) == (413, "request_too_large")


# ---------------------------------------------------------------- a client's system prompt


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, ["Be brief."]),
        ({"client_system_prompt": "ignore"}, ["Be brief."]),
        ({"client_system_prompt": "allow"}, ["Be brief.", "Be rude."]),
        ({"allow_client_system_prompt": True}, ["Be brief.", "Be rude."]),
        ({"allow_client_system_prompt": False}, ["Be brief."]),
    ],
    ids=str,
)
async def test_a_clients_system_prompt_is_ignored_or_follows_the_operators(options, sent):
    options = {"system_prompt": "Be brief.", **options}
    status, _, provider = await asked(options=options, system_prompt="Be rude.")
    assert status == 200
    texts = [m.text for m in provider.asked[0].messages if m.role == "system"]
    assert "\n\n".join(texts).split("\n\n") == sent


async def test_a_clients_system_prompt_may_be_refused():
    options = {"client_system_prompt": "refuse"}
    status, problem, _ = await asked(options=options, system_prompt="Be rude.")
    sentence = "This server does not accept a system prompt from clients."
    assert (status, problem) == (400, ("invalid_request", sentence))
    assert (await asked(options=options))[0] == 200
    assert (await asked(options=options, system_prompt=""))[0] == 200  # it says nothing


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        (
            {"client_system_prompt": "allow", "allow_client_system_prompt": True},
            (
                "client_system_prompt: expected it or allow_client_system_prompt, got both. Remove "
                "allow_client_system_prompt."
            ),
        ),
        (
            {"client_system_prompt": "ignore", "allow_client_system_prompt": False},
            (
                "client_system_prompt: expected it or allow_client_system_prompt, got both. Remove "
                "allow_client_system_prompt."
            ),
        ),
        (
            {"client_system_prompt": "append"},
            "client_system_prompt: expected one of ignore, refuse, allow, got 'append'.",
        ),
    ],
)
def test_what_becomes_of_it_is_said_once_and_in_one_of_three_words(options, detail):
    with pytest.raises(ConfigurationError) as caught:
        ChatNestApp(provider=Recorder(), **options)
    assert caught.value.detail == detail


# ---------------------------------------------------------------- the catalogue


def told(models: Any, profiles: Any = DEFAULT_PROFILES, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ChatNestApp(models=models, profiles=profiles, **options)
    return caught.value.detail


def test_what_is_no_catalogue_is_refused():
    one = Model(provider=PROVIDER)
    assert told({}).startswith("models: expected a dict of at least one Model by name, got {}")
    assert told([one]).startswith("models: expected a dict of at least one Model by name, got [")
    assert told({"a": PROVIDER}).startswith("models: expected a dict of at least one Model by ")
    assert told({"a": one, "b": PROVIDER}).startswith("models.b: expected a Model, got Recorder.")
    assert told({"a b": one}).startswith("models: expected names of at most 128 letters, digits")
    assert told({"a": one, "b": Model(provider=PROVIDER, aliases=("a",))}) == (
        "models: expected names and aliases of one model each, got 'a' for 'a' and 'b'. Remove one "
        "of them."
    )
    assert told({"a": one}, [changed(models=("a", "b"))]) == (
        "profiles.balanced.models: expected names of models (a), got 'b'. Correct the name, or add "
        "the model."
    )
    assert told({"a": one}, provider=PROVIDER).startswith(
        "provider: expected provider or models, got both."
    )
    assert told({"a": Model(provider=PROVIDER, encoding="x")}).startswith(
        "models.a.encoding: expected one of "
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("context_window", 0), ("max_image_tokens", 0), ("model", " ")),
        *(("image_detail", "auto"), ("provider", "openai")),
    ],
)
def test_a_model_is_valid_by_construction(field, value):
    with pytest.raises(ConfigurationError, match=f"{field}: expected "):
        Model(**{"provider": PROVIDER, field: value})


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (
            {"images": True},
            (
                "profiles.balanced.images: expected a model that takes images, got a. Set "
                "max_image_tokens of a model that takes them, or images = false."
            ),
        ),
        ({"images": False}, None),
    ],
)
def test_a_profile_for_images_has_a_model_that_takes_them(fields, detail):
    models = {"a": Model(provider=Recorder("llama-3"))}
    if detail is not None:
        assert told(models, [changed(**fields)]) == detail
    else:
        ChatNestApp(models=models, profiles=[changed(**fields)])


@pytest.mark.parametrize("field", ["max_tokens_per_request", "daily_token_limit"])
def test_a_profile_for_images_has_room_for_one(field):
    models = {"a": Model(provider=PROVIDER, model="llama-3", max_image_tokens=500)}
    limits: dict[str, Any] = {"max_tokens_per_request": 2_000, "daily_token_limit": 2_000}
    needed = 500 + 64
    limits["images"] = True
    ChatNestApp(models=models, profiles=[changed(**limits | {field: needed + 1})])
    assert told(models, [changed(**limits | {field: needed})]) == (
        f"profiles.balanced.images: expected {field} above {needed}, for an image of at least 500 "
        f"tokens (a) and the minimum output, got {needed}. Raise {field}, or set images = false."
    )


# ------------------------------------------------ a model that accepts no small outputs


class Picky(Recorder):
    """Its API refuses a limit of the output below 16."""

    least_output_tokens = 16


async def status_of(provider: Recorder, ledger: Any, profile: Profile, **request: Any) -> int:
    """The status of the answer to a request."""
    app = ChatNestApp(
        provider=provider, profiles=[profile], ledger=ledger, formats=[Given(**request)]
    )
    async with Conversation(app, json={}) as c:
        await c.read_all()
    await app.aclose()
    assert c.status is not None
    return c.status


@pytest.mark.parametrize(
    ("kind", "asked", "sent"), [(Recorder, 5, 5), (Picky, 5, 16), (Picky, 16, 16), (Picky, 20, 20)]
)
async def test_a_model_gets_the_least_output_that_it_accepts_and_that_is_held(kind, asked, sent):
    provider, books = kind(), Books()
    assert await status_of(provider, books, changed(), max_output_tokens=asked) == 200

    assert provider.asked[0].max_output_tokens == sent
    assert books.reservations[0].tokens == 8 + sent


@pytest.mark.parametrize(
    "fields",
    [{"max_tokens_per_request": 23}, {"daily_token_limit": 23, "max_tokens_per_request": 2_000}],
)
async def test_without_room_for_it_the_model_is_not_asked(fields):
    """The question has 8 tokens, so 15 are left."""
    provider, books = Picky(), Books()
    profile = changed(min_output_tokens=1, max_output_tokens=16, **fields)
    assert await status_of(provider, books, profile, max_output_tokens=5) in {400, 413, 429}
    assert provider.asked == []

    more = {name: value + 1 for name, value in fields.items()}
    profile = msgspec.structs.replace(profile, **more)
    assert await status_of(provider, Books(), profile, max_output_tokens=5) == 200
    assert provider.asked[0].max_output_tokens == 16


def test_a_profile_whose_answers_no_model_accepts_stops_the_start():
    profile = changed(max_output_tokens=15)
    assert told({"a": Model(provider=Picky())}, [profile], default_profile="balanced") == (
        "profiles.balanced.max_output_tokens: expected at least 16, since the API of the model 'a' "
        "accepts no fewer, got 15. Raise it, or leave the model out of the profile's models."
    )
    Catalogue.of({"a": Model(provider=Recorder())}, {"balanced": profile})


@pytest.mark.parametrize("request_", [each[1] for each in PERMISSIONS.values()], ids=PERMISSIONS)
async def test_the_shipped_profile_for_programs_allows_what_they_send(request_):
    options = {"default_profile": "assistant"}
    status, problem, provider = await asked(options=options, **request_)
    assert (status, problem) == (200, None)
    for field in request_.keys() - {"messages"}:
        assert getattr(provider.asked[0], field) == request_[field]


async def test_the_shipped_profile_for_programs_is_closed_by_default():
    status, problem, provider = await asked(profile="assistant", sampling=Sampling(seed=0))
    assert status == 403
    assert problem[0] == "forbidden_profile"
    assert provider.asked == []


@pytest.mark.parametrize("profile", [CONSTRAINED, BALANCED, EXPANDED])
async def test_the_other_shipped_profiles_allow_text_alone(profile):
    options = {"profiles": [profile], "default_profile": profile.name}
    for _, request, what in PERMISSIONS.values():
        _, problem, provider = await asked(options=options, **request)
        sentence = f"The profile {profile.name!r} does not allow {what}."
        assert problem == ("invalid_request", sentence)
        assert provider.asked == []


def test_a_shipped_profile_fits_any_model():
    ChatNestApp(provider=Recorder("llama-3"), allowed_profiles=["assistant"])


async def test_providers_are_warmed_and_closed_once(monkeypatch):
    warmed = []

    async def warm(self):
        warmed.append(self.encoding_name)

    monkeypatch.setattr(Tokenizer, "warm", warm)
    first, second = Recorder(), Recorder()
    models = {
        "a": Model(provider=first),
        "b": Model(provider=first, model="gpt-4"),
        "c": Model(provider=second, encoding="bytes"),
    }
    chat = ChatNestApp(models=models)
    await chat.start()
    await chat.aclose()
    assert warmed == ["o200k_base", "cl100k_base", "bytes"]
    assert (first.closed, second.closed) == (1, 1)


async def test_all_are_closed_though_one_of_them_fails_to():
    class Closing(MemoryLedger):
        closed = False

        async def aclose(self):
            self.closed = True
            await super().aclose()

    ledger = Closing()
    first, second = Recorder(), Recorder()
    first.fails_to_close = True
    chat = ChatNestApp(
        models={"a": Model(provider=first), "b": Model(provider=second)}, ledger=ledger
    )
    with pytest.raises(RuntimeError, match="it does not close"):
        await chat.aclose()
    assert (first.closed, second.closed, ledger.closed) == (1, 1, True)


@pytest.mark.parametrize(
    ("local", "seconds"), [((False, False), 30), ((True, False), 300), ((True, True), 300)]
)
def test_one_local_server_is_enough_for_a_long_wait(local, seconds):
    models = {str(n): Model(provider=Recorder(is_local=is_)) for n, is_ in enumerate(local)}
    assert ChatNestApp(models=models)._bounds.first_byte_seconds == seconds


def test_runs_of_another_catalogue_are_others():
    profiles = {"balanced": BALANCED}
    one = Catalogue.of_one(Recorder("m"), profiles)
    assert one.realm == "m"
    assert Catalogue.of({"x": Model(provider=Recorder("m"))}, profiles).realm == "m"
    realms = {
        Catalogue.of({n: Model(provider=PROVIDER, model=u) for n, u in pairs}, profiles).realm
        for pairs in (
            [("a", "u"), ("b", "v")],
            [("a", "v"), ("b", "u")],
            [("b", "v"), ("a", "u")],
            [("a", "u"), ("b", "v"), ("c", "w")],
        )
    }
    assert len(realms) == 4
    assert "m" not in realms
