"""Models and providers that a configuration names, and what cannot be."""

import os
import re

import msgspec
import pytest

from chatnest import ChatNestApp
from chatnest.config.build import build_chat
from chatnest.config.catalogue import facts_of
from chatnest.config.sections import Config, LedgerSection, load_config
from chatnest.errors import ConfigurationError
from chatnest.models import Candidate
from chatnest.providers import DemoProvider, OpenAIProvider
from chatnest.server.site import make_site
from chatnest.testing import Conversation, FakeUpstream, chat_nest_client
from chatnest.tokens import Tokenizer
from tests.test_config import ended

CATALOGUE = """\
[providers.house]
base_url = "http://127.0.0.1:9/v1"
api_key_env = "HOUSE_KEY"

[providers.other]
base_url = "http://127.0.0.1:8/v1"
organization = "org"

[models.large]
provider = "house"
model = "gpt-4.1"
aliases = ["gpt-4o", "best"]
context_window = 200_000

[models.small]
provider = "house"
model = "llama-3"
encoding = "bytes"

[models.thinker]
provider = "house"
model = "gpt-5"
reasoning_effort = "low"

[models.seeing]
provider = "other"
max_image_tokens = 1_700
image_detail = "high"

[profiles.balanced]
models = ["small", "large"]
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "CHATNEST_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOUSE_KEY", "sk-of-the-house")
    monkeypatch.setattr("chatnest.server.serve._listen", lambda _: pytest.fail("it would serve"))
    monkeypatch.chdir(tmp_path)


def load(text: str, tmp_path, environ=None, *, demo: bool = False) -> Config:
    path = tmp_path / "chatnest.toml"
    path.write_text(text)
    config = load_config(path, environ or {}, {}, demo=demo)
    return msgspec.structs.replace(config, ledger=LedgerSection(url="memory:"))


def built(text: str, tmp_path, environ=None, *, demo: bool = False) -> ChatNestApp:
    return build_chat(load(text, tmp_path, environ, demo=demo))


def told(text: str, tmp_path, environ=None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        built(text, tmp_path, environ)
    return caught.value.detail.replace(str(tmp_path / "chatnest.toml"), "FILE")


def encodings(*models: Candidate) -> list[str]:
    return [each.counter.encoding_name for each in models if isinstance(each.counter, Tokenizer)]


# ---------------------------------------------------------------- what is built


def test_models_are_in_the_order_of_the_file_and_have_what_is_written(tmp_path):
    models = built(CATALOGUE, tmp_path).models

    assert [each.name for each in models.candidates] == ["large", "small", "thinker", "seeing"]
    assert [each.upstream for each in models.candidates] == [
        *("gpt-4.1", "llama-3", "gpt-5"),
        "seeing",  # without a name of its own upstream, it has this one
    ]
    large, small, _, seeing = models.candidates
    assert (large.aliases, large.context_window) == (("gpt-4o", "best"), 200_000)
    assert (large.takes_images, small.takes_images, seeing.takes_images) == (True, False, True)
    assert encodings(large, small) == ["o200k_base", "bytes"]
    assert seeing.image_detail == "high"


def test_a_profile_without_models_has_all_of_them_and_others_those_that_they_name(tmp_path):
    by_profile = built(CATALOGUE, tmp_path).models.by_profile

    assert [each.name for each in by_profile["balanced"]] == ["small", "large"]
    assert [each.name for each in by_profile["constrained"]] == [
        *("large", "small", "thinker"),
        "seeing",
    ]


def test_models_of_one_provider_share_it_unless_their_requests_have_other_fields(tmp_path):
    models = built(CATALOGUE, tmp_path).models
    large, small, thinker, seeing = (each.provider for each in models.candidates)

    assert large is small
    assert large is not thinker
    assert models.providers == (large, thinker, seeing)
    assert all(isinstance(each, OpenAIProvider) for each in models.providers)


def test_an_encoding_of_one_model_is_not_that_of_the_others(tmp_path):
    text = CATALOGUE.replace('model = "gpt-4.1"', 'model = "gpt-4.1"\nencoding = "bytes"')
    text = text.replace('encoding = "bytes"\n\n[models.thinker]', "\n[models.thinker]")
    large, small, *_ = built(text, tmp_path).models.candidates
    assert encodings(large, small) == ["bytes", "o200k_base"]


def test_a_model_without_a_provider_has_that_of_the_short_form(tmp_path):
    text = '[provider]\nbase_url = "http://127.0.0.1:9/v1"\n[models.a]\n[models.b]\nmodel = "c"\n'
    models = built(text, tmp_path).models

    assert [each.upstream for each in models.candidates] == ["a", "c"]
    assert len(models.providers) == 1
    assert "127.0.0.1:9" in repr(models.providers[0])


def test_the_short_form_is_one_model_with_the_name_default(tmp_path):
    text = '[provider]\nmodel = "llama-3"\nbase_url = "http://127.0.0.1:9/v1"\n'
    models = built(text + '[profiles.balanced]\nmodels = ["default"]\n', tmp_path).models

    (only,) = models.candidates
    assert set(only.names) == {"default", "llama-3"}
    assert models.by_profile["balanced"] == (only,)


def test_the_environment_changes_and_adds_models(tmp_path):
    environ = {
        "CHATNEST_MODELS__LARGE__MODEL": "gpt-4o",
        "CHATNEST_MODELS__LARGE__ALIASES": "a, b",
        "CHATNEST_MODELS__NEW__PROVIDER": "other",
        "CHATNEST_PROVIDERS__OTHER__BASE_URL": "http://127.0.0.1:7/v1",
        "CHATNEST_PROFILES__BALANCED__MODELS": "new, large",
    }
    models = built(CATALOGUE, tmp_path, environ).models

    assert (models.default.upstream, models.default.aliases) == ("gpt-4o", ("a", "b"))
    assert [each.name for each in models.by_profile["balanced"]] == ["new", "large"]
    assert "127.0.0.1:7" in repr(models.candidates[-1].provider)


def test_a_catalogue_survives_the_way_to_a_worker(tmp_path):
    config = load(CATALOGUE, tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config
    assert list(config.models) == ["large", "small", "thinker", "seeing"]


def test_a_demo_has_the_models_of_the_catalogue_and_asks_none(tmp_path):
    models = built(CATALOGUE, tmp_path, demo=True).models

    assert [each.name for each in models.candidates] == ["large", "small", "thinker", "seeing"]
    (provider,) = models.providers
    assert isinstance(provider, DemoProvider)


@pytest.mark.anyio
async def test_each_provider_is_asked_with_its_own_key_and_model(tmp_path, upstream, monkeypatch):
    with FakeUpstream() as other:
        text = CATALOGUE.replace("http://127.0.0.1:9/v1", upstream.base_url)
        text = text.replace("http://127.0.0.1:8/v1", other.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
        for models, asked, model, key in (
            ("large", upstream, "gpt-4.1", "sk-of-the-house"),
            ("thinker", upstream, "gpt-5", "sk-of-the-house"),
            ("seeing", other, "seeing", "sk-of-openai"),
        ):
            environ = {"CHATNEST_PROFILES__BALANCED__MODELS": models}
            chat = built(text, tmp_path, environ)
            body = {"messages": [{"role": "user", "content": "Hi"}]}
            async with Conversation(chat, json=body) as c:
                assert chat_nest_client(await c.read_all()).done
            await chat.aclose()
            assert asked.last.json["model"] == model
            assert asked.last.headers["authorization"] == f"Bearer {key}"
            assert ("reasoning_effort" in asked.last.json) == (models == "thinker")


# ---------------------------------------------------------------- other APIs

APIS = {
    "openai-responses": ("OPENAI", "OpenAIResponsesProvider"),
    "anthropic-messages": ("ANTHROPIC", "AnthropicProvider"),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("form", ["provider", "providers.it"])
def test_an_api_is_spoken_by_its_class(tmp_path, monkeypatch, api, form):
    prefix, kind = APIS[api]
    monkeypatch.setenv(f"{prefix}_API_KEY", "sk-x")
    text = f'[{form}]\napi = "{api}"\n'
    if form == "provider":
        text += 'model = "some-model"\n'
    else:
        text += '[models.some-model]\nprovider = "it"\n'
    (provider,) = built(text, tmp_path).models.providers
    assert type(provider).__name__ == kind
    assert provider.model == "some-model"


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["openai-chat", *APIS])
async def test_models_of_one_provider_are_asked_by_their_own_names(tmp_path, upstream, api):
    text = f"""
        [providers.it]
        api = "{api}"
        base_url = "{upstream.base_url}"
        api_key_env = "HOUSE_KEY"
        [models.a]
        provider = "it"
        model = "first"
        [models.b]
        provider = "it"
        model = "second"
        [profiles.balanced]
        models = ["a"]
        [profiles.constrained]
        models = ["b"]
    """
    chat = built(text, tmp_path)
    assert len(chat.models.providers) == 1
    for profile, model in (("balanced", "first"), ("constrained", "second")):
        body = {"messages": [{"role": "user", "content": "Hi"}], "profile": profile}
        async with Conversation(chat, json=body) as c:
            assert chat_nest_client(await c.read_all()).done
        asked = upstream.last
        assert asked.json["model"] == model
        assert "sk-of-the-house" in {*asked.headers.get("authorization", "").split(" ")} | {
            asked.headers.get("x-api-key")
        }
    await chat.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["provider", "models.m"])
async def test_a_model_reasons_and_summarizes_as_it_is_said(tmp_path, upstream, form):
    """A deployment's name does not tell that it reasons."""
    provider = f'[provider]\napi = "openai-responses"\nbase_url = "{upstream.base_url}"\n'
    model = 'model = "deployment"\nreasons = true\nreasoning_summary = "detailed"\n'
    text = provider + model if form == "provider" else f"{provider}[{form}]\n{model}"
    chat = built(text, tmp_path)
    async with Conversation(chat, json={"messages": [{"role": "user", "content": "Hi"}]}) as c:
        assert chat_nest_client(await c.read_all()).done
    await chat.aclose()

    body = upstream.last.json
    assert body["reasoning"] == {"summary": "detailed"}
    assert body["include"] == ["reasoning.encrypted_content"]
    assert "temperature" not in body


@pytest.mark.anyio
async def test_a_model_does_not_reason_if_it_is_said(tmp_path, upstream):
    text = f"""
        [provider]
        api = "openai-responses"
        base_url = "{upstream.base_url}"
        model = "gpt-5"
    """
    environ = {"CHATNEST_PROVIDER__REASONS": "false"}
    chat = built(text, tmp_path, environ)
    async with Conversation(chat, json={"messages": [{"role": "user", "content": "Hi"}]}) as c:
        assert chat_nest_client(await c.read_all()).done
    await chat.aclose()

    assert {"include", "reasoning"}.isdisjoint(upstream.last.json)
    assert upstream.last.json["temperature"] == 0.7


@pytest.mark.parametrize("api", APIS)
def test_a_key_comes_from_the_variable_of_the_api(tmp_path, api):
    prefix, *_ = APIS[api]
    text = f'[providers.it]\napi = "{api}"\n[models.m]\nprovider = "it"\n'
    assert told(text, tmp_path) == (
        f"{prefix}_API_KEY: expected the key of [providers.it], got none. Set it, or name another "
        "variable in providers.it.api_key_env."
    )


# ---------------------------------------------------------------- what cannot be

MODEL = '[models.m]\nprovider = "house"\n'
HOUSE = '[providers.house]\nbase_url = "http://127.0.0.1:9/v1"\n'

WRONG = {
    "a provider that does not exist": (
        '[models.m]\nprovider = "hous"\n' + HOUSE,
        (
            "FILE: models.m.provider: expected one of default, house, got 'hous'. Correct the "
            "name, or add [providers.hous]."
        ),
    ),
    "providers without models": (
        HOUSE,
        (
            "FILE: providers.house: expected a model that uses it, got no [models]. Add "
            '[models.NAME] with provider = "house".'
        ),
    ),
    "a provider with the name of the short form": (
        "[providers.default]\ninclude_usage = false\n[models.m]\n",
        (
            "FILE: providers.default: expected another name, got the one of [provider]. Rename "
            "it, or write its settings in [provider]."
        ),
    ),
    "a model of the short form beside models": (
        '[provider]\nmodel = "x"\n' + HOUSE + MODEL,
        (
            "FILE: provider.model: expected no setting of a model beside [models], got 'x'. "
            "Move it to [models.NAME]."
        ),
    ),
    "the default model of the short form beside models": (
        '[provider]\nmodel = "gpt-4o-mini"\n' + HOUSE + MODEL,
        (
            "FILE: provider.model: expected no setting of a model beside [models], got "
            "'gpt-4o-mini'. Move it to [models.NAME]."
        ),
    ),
    "another setting of a model beside models": (
        "[provider]\nthink_tags = true\n" + HOUSE + MODEL,
        (
            "FILE: provider.think_tags: expected no setting of a model beside [models], got "
            "True. Move it to [models.NAME]."
        ),
    ),
    "a profile's model that does not exist": (
        HOUSE + MODEL + '[profiles.balanced]\nmodels = ["m", "n"]\n',
        (
            "FILE: profiles.balanced.models: expected names of models (m), got 'n'. Correct "
            "the name, or add the model."
        ),
    ),
    "a profile without any model": (
        HOUSE + MODEL + "[profiles.balanced]\nmodels = []\n",
        (
            "FILE: profiles.balanced.models: expected at least one name, got none. Leave it "
            "out for all models."
        ),
    ),
    "a name for two models": (
        HOUSE + MODEL + '[models.n]\nprovider = "house"\naliases = ["m"]\n',
        (
            "FILE: models: expected names and aliases of one model each, got 'm' for 'm' and "
            "'n'. Remove one of them."
        ),
    ),
    "an API that does not exist": (
        '[providers.house]\napi = "openai"\n' + MODEL,
        (
            "FILE: providers.house.api: expected 'openai-chat' or 'openai-responses' or "
            "'anthropic-messages', got 'openai'."
        ),
    ),
    "a setting that the API does not have": (
        '[providers.it]\napi = "anthropic-messages"\nproject = "p"\n[models.m]\nprovider = "it"\n',
        (
            "FILE: providers.it.project: expected a setting of the API anthropic-messages, got "
            "one of other APIs. Remove it."
        ),
    ),
    "a model's setting that the API does not have": (
        '[provider]\napi = "openai-responses"\n[models.m]\nthink_tags = true\n',
        (
            "FILE: models.m.think_tags: expected a setting of the API openai-responses, got "
            "one of other APIs. Remove it."
        ),
    ),
    "a summary in an API that has none": (
        '[models.m]\nreasoning_summary = "auto"\n',
        (
            "FILE: models.m.reasoning_summary: expected a setting of the API openai-chat, got "
            "one of other APIs. Remove it."
        ),
    ),
    "reasons of Claude": (
        '[provider]\napi = "anthropic-messages"\nmodel = "claude-haiku-4-5"\nreasons = true\n',
        (
            "FILE: provider.reasons: expected a setting of the API anthropic-messages, got one "
            "of other APIs. Remove it."
        ),
    ),
    "a summary that does not exist": (
        '[provider]\napi = "openai-responses"\nmodel = "m"\nreasoning_summary = "long"\n',
        (
            "FILE: provider.reasoning_summary: expected 'auto' or 'concise' or 'detailed', got "
            "'long'."
        ),
    ),
    "another API without a model": (
        '[provider]\napi = "anthropic-messages"\n',
        (
            "FILE: provider.api: expected the name of a model of anthropic-messages in "
            "provider.model, got none. Name one, such as claude-haiku-4-5."
        ),
    ),
    "a key of the environment that is not set": (
        HOUSE + 'api_key_env = "NO_KEY"\n' + MODEL,
        (
            "FILE: providers.house.api_key_env: expected an environment variable that is set, "
            "got 'NO_KEY'. Set it, or name another one."
        ),
    ),
    "a secret": (
        '[providers.house]\napi_key = "sk-secret"\n',
        (
            "FILE: providers.house.api_key: expected the secret in the variable of api_key_env "
            "alone, got it here. Remove it here and set the variable of api_key_env in the "
            "environment."
        ),
    ),
    "a header field of the environment that is not set": (
        HOUSE + 'headers_env = { x-key = "NO_KEY" }\n' + MODEL,
        (
            "FILE: providers.house.headers_env['x-key']: expected an environment variable that "
            "is set, got 'NO_KEY'. Set it, or remove the field."
        ),
    ),
    "an address that is none": (
        '[providers.house]\nbase_url = "x"\n' + MODEL,
        (
            "FILE: providers.house.base_url: expected an address that begins with http:// or "
            "https://, got 'x'."
        ),
    ),
    "an encoding that does not exist": (
        HOUSE + MODEL + 'encoding = "x"\n',
        "FILE: models.m.encoding: expected one of o200k_base, cl100k_base, bytes, got 'x'.",
    ),
    "an encoding that does not exist, of a model with a long name": (
        HOUSE + '[models."a/b:c"]\nprovider = "house"\nencoding = "x"\n',
        "FILE: models.a/b:c.encoding: expected one of o200k_base, cl100k_base, bytes, got 'x'.",
    ),
    "a model with a blank name": (
        HOUSE + MODEL + 'model = " "\n',
        "FILE: models.m.model: expected the name of a model, got ' '. Name one, or leave it out.",
    ),
    "a window of nothing": (
        HOUSE + MODEL + "context_window = 0\n",
        "FILE: models.m.context_window: expected an integer >= 1, got 0.",
    ),
    "a window without room for a question": (
        HOUSE + MODEL + "context_window = 64\n",
        (
            "FILE: models.m.context_window: expected more than 64, the minimum output of the "
            "profile 'constrained', got 64. Raise it, or lower min_output_tokens of the "
            "profile."
        ),
    ),
    "a typo in a model": (
        HOUSE + MODEL + "max_images_tokens = 1\n",
        (
            "FILE: models.m.max_images_tokens: expected a known key, got an unknown one. Did "
            "you mean models.m.max_image_tokens?"
        ),
    ),
    "a model that is a value": (
        HOUSE + "[models]\nm = 1\n",
        "FILE: models.m: expected a section, got a value. Write [models.m] above its keys.",
    ),
    "images that no model takes": (
        HOUSE + MODEL + "[profiles.balanced]\nimages = true\n",
        (
            "FILE: profiles.balanced.images: expected a model that takes images, got m. Set "
            "max_image_tokens of a model that takes them, or images = false."
        ),
    ),
    "images that the model of the short form does not take": (
        (
            '[provider]\nmodel = "llama"\nbase_url = "http://127.0.0.1:9/v1"\n'
            "[profiles.balanced]\nimages = true\n"
        ),
        (
            "FILE: profiles.balanced.images: expected a model that takes images, got llama. "
            "Set max_image_tokens of a model that takes them, or images = false."
        ),
    ),
    "images that fit no request": (
        HOUSE
        + MODEL
        + "max_image_tokens = 1_984\n"
        + "[profiles.balanced]\nimages = true\nmax_tokens_per_request = 2_048\n",
        (
            "FILE: profiles.balanced.images: expected max_tokens_per_request above 2048, for "
            "an image of at least 1984 tokens (m) and the minimum output, got 2048. Raise "
            "max_tokens_per_request, or set images = false."
        ),
    ),
    "thinking that leaves no room": (
        HOUSE + MODEL + "[profiles.balanced]\nmax_reasoning_tokens = 1_984\n",
        (
            "FILE: profiles.balanced.max_reasoning_tokens: expected less than "
            "max_tokens_per_request - min_output_tokens = 1984, got 1984, which leaves no "
            "tokens for the input. Set max_tokens_per_request = 4032, the 2048 of now and the "
            "thinking, or lower max_reasoning_tokens."
        ),
    ),
    "thinking beyond the tokens of a day": (
        HOUSE + MODEL + "[profiles.balanced]\nmax_reasoning_tokens = 4_000\n"
        "daily_token_limit = 3_000\nmax_tokens_per_request = 6_048\n",
        (
            "FILE: profiles.balanced.max_reasoning_tokens: expected less than "
            "daily_token_limit - min_output_tokens = 2936, got 4000, which leaves no tokens for "
            "the input. Set daily_token_limit = 7000, the 3000 of now and the thinking, or lower "
            "max_reasoning_tokens."
        ),
    ),
    "both ways to say what becomes of a client's system prompt": (
        '[chat]\nclient_system_prompt = "allow"\nallow_client_system_prompt = true\n'
        + HOUSE
        + MODEL,
        (
            "FILE: chat.client_system_prompt: expected it or allow_client_system_prompt, got "
            "both. Remove allow_client_system_prompt."
        ),
    ),
    "a word that is none of three": (
        '[chat]\nclient_system_prompt = "append"\n',
        "FILE: chat.client_system_prompt: expected 'ignore' or 'refuse' or 'allow', got 'append'.",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_told_with_its_key_its_source_and_the_remedy(tmp_path, text, message):
    assert told(text, tmp_path) == message


OF_A_CHAT_OF_TODAY = """
[providers.claude]
api = "anthropic-messages"
base_url = "https://api.anthropic.com"
api_key_env = "HOUSE_KEY"

[models.large]
provider = "claude"
model = "claude-sonnet-4-5"
aliases = ["gpt-4o"]
context_window = 200_000
max_image_tokens = 1_700

[profiles.balanced]
models = ["large"]
tools = true
images = true
structured_output = true
max_reasoning_effort = "medium"
max_reasoning_tokens = 4_000
"""


def test_the_remedy_for_thinking_without_room_is_the_whole_remedy(tmp_path):
    """One line, as the error has it, and the configuration starts."""
    remedy = re.search(r"Set (\w+ = \d+),", told(OF_A_CHAT_OF_TODAY, tmp_path))
    assert remedy is not None
    assert remedy[1] == "max_tokens_per_request = 6048"
    app = built(f"{OF_A_CHAT_OF_TODAY}{remedy[1]}\n", tmp_path)
    assert app.profiles["balanced"].max_tokens_per_request == 6_048


def test_a_source_may_be_the_environment(tmp_path):
    environ = {"CHATNEST_MODELS__M__PROVIDER": "x"}
    assert told(HOUSE + MODEL, tmp_path, environ).startswith(
        "the environment: models.m.provider: expected one of default, house, got 'x'."
    )


@pytest.mark.parametrize(
    "limits",
    [
        "images = true\nmax_tokens_per_request = 2_049",
        "max_reasoning_tokens = 1_983",
        "max_reasoning_tokens = 4_000\nmax_tokens_per_request = 6_000",
    ],
)
def test_what_has_room_is_served(tmp_path, limits):
    text = f"{HOUSE}{MODEL}max_image_tokens = 1_984\n[profiles.balanced]\n{limits}\n"
    built(text, tmp_path)


def test_profiles_that_ship_go_with_models_that_take_no_images(tmp_path):
    text = '[chat]\nallowed_profiles = ["assistant"]\n' + HOUSE + MODEL
    assert not built(text, tmp_path).models.default.takes_images


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_mixture_ends_serve_and_doctor_with_one_sentence(capsys, tmp_path, command):
    path = tmp_path / "c.toml"
    path.write_text(HOUSE)
    code, out, err = ended(capsys, command, "--ledger", "memory:", "--config", str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"chatnest: {path}: providers.house: expected a model that uses it, got ")


def test_serve_without_a_key_names_the_variable_of_the_api(capsys, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[provider]\napi = "anthropic-messages"\nmodel = "claude-haiku-4-5"\n')
    code, _, err = ended(capsys, "serve", "--config", str(path))
    assert code == 2
    assert err.startswith("chatnest: ANTHROPIC_API_KEY: expected the key of a model's provider, ")


# ---------------------------------------------------------------- what is shown


def test_models_are_shown_with_what_they_take_and_their_profiles(tmp_path):
    config = load(CATALOGUE, tmp_path)
    shown = {each.name: str(each) for each in facts_of(config, build_chat(config).models)}
    others = "constrained, expanded, assistant"
    assert shown == {
        "large": (
            "gpt-4.1 at house, text and images, 200,000 tokens; in constrained, balanced, "
            "expanded, assistant"
        ),
        "small": "llama-3 at house, text; in constrained, balanced, expanded, assistant",
        "thinker": f"gpt-5 at house, text and images; in {others}",
        "seeing": f"seeing at other, text and images; in {others}",
    }


def test_the_start_of_serve_has_a_line_for_each_model(tmp_path):
    from chatnest.server.serve import _model_lines

    config = load(CATALOGUE, tmp_path)
    lines = list(_model_lines(config, build_chat(config)))
    assert len(lines) == 4
    assert lines[1] == (
        "  model     small: llama-3 at house, text; in constrained, balanced, expanded, assistant"
    )


@pytest.mark.anyio
async def test_the_page_gets_the_models_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_FIELD", "sk-of-a-field")
    text = CATALOGUE.replace(
        'organization = "org"', 'organization = "org"\nheaders_env = { x-k = "SECRET_FIELD" }'
    )
    config = load(text, tmp_path)
    chat = build_chat(config)
    site = make_site(config, chat)
    async with Conversation(site, method="GET", path="/settings.json") as c:
        body = await c.read_all()
    await chat.aclose()
    models = msgspec.json.decode(body)["models"]
    assert models[0] == {
        "name": "large",
        "model": "gpt-4.1",
        "provider": "house",
        "aliases": ["gpt-4o", "best"],
        "images": True,
        "context_window": 200_000,
        "profiles": ["constrained", "balanced", "expanded", "assistant"],
    }
    assert [each["name"] for each in models] == ["large", "small", "thinker", "seeing"]
    for secret in (b"sk-of", b"127.0.0.1", b"HOUSE_KEY"):
        assert secret not in body


def doctor(capsys, tmp_path, text: str) -> tuple[object, str]:
    path = tmp_path / "c.toml"
    path.write_text(text)
    code, out, err = ended(capsys, "doctor", "--ledger", "memory:", "--config", str(path))
    assert err == ""
    return code, out


def test_the_doctor_looks_at_each_provider_and_each_model(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    text = CATALOGUE.replace("http://127.0.0.1:9/v1", "http://user:hunter2@models.example/v1")
    code, out = doctor(capsys, tmp_path, text)

    rows = {line.split()[1]: line.split() for line in out.splitlines()[:-1]}
    assert code == 1
    assert " ".join(rows["providers.house.key"]) == "ok providers.house.key HOUSE_KEY is set"
    assert rows["providers.house.base_url"][0] == "warn"
    assert rows["providers.other.network"][0] == "ok"
    assert rows["models.large"][0] == "ok"
    assert rows["models.thinker"][0] == "fail"  # it may think without an answer
    assert "lower models.thinker.reasoning_effort" in out
    assert "provider.key" not in rows
    for secret in ("hunter2", "sk-secret", "sk-of-the-house"):
        assert secret not in out


def test_the_doctor_names_keys_that_are_missing_and_models_without_a_profile(capsys, tmp_path):
    text = '[models.m]\nmodel = "gpt-4o"\n[models.unused]\n' + "".join(
        f'[profiles.{name}]\nmodels = ["m"]\n'
        for name in ("constrained", "balanced", "expanded", "assistant")
    )
    code, out = doctor(capsys, tmp_path, text)

    rows = {line.split()[1]: line for line in out.splitlines()[:-1]}
    assert code == 1
    assert rows["provider.key"].startswith("fail")
    assert "OPENAI_API_KEY is not set" in rows["provider.key"]
    assert rows["models.unused"].startswith("warn")
    assert rows["models.unused"].endswith("-> add it to the models of a profile")
