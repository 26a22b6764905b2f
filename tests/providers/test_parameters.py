"""What a model takes: by its name's family, by settings, by what a refusal names."""

import pytest

from chatnest.errors import ConfigurationError
from chatnest.providers.openai.models import is_reasoning, unsupported_field
from chatnest.providers.openai_chat.parameters import ModelParameters, Parameters
from chatnest.providers.refusals.error_documents import read_refusal
from chatnest.requests import ModelRequest

REQUEST = ModelRequest(messages=(), max_output_tokens=50, temperature=0.5)
SENT = ("max_tokens", "temperature", "stream_options")


@pytest.mark.parametrize(
    "model",
    [
        *("o1", "o3-mini", "o4-mini-2025-04-16", "o5-mini", "gpt-5", "gpt-5-mini", "gpt-5.1"),
        *("gpt-6-mini", "gpt-10", "openai/gpt-5-mini", "openai/o3", "openrouter/openai/o4-mini"),
        *("prod-gpt5", "my-gpt-5-deployment", "azure/prod-o3", "gpt-5:free", "GPT-5"),
    ],
)
def test_a_reasoning_model_is_known_by_its_name(model):
    assert is_reasoning(model)


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-4o", "gpt-4.1", "gpt-4o-mini", "chatgpt-4o-latest", "gpt-3.5-turbo", "gpt-35-turbo"),
        *("gpt-5-chat-latest", "openai/gpt-5-chat", "gpt-5.2-chat", "o365-helper", "gpt-oss-120b"),
        *("llama3.3:70b", "claude-opus-4", "mistral-large", "yi-o1x", "foo1", "proto3", "qwen2.5"),
    ],
)
def test_other_models_are_not_taken_for_one(model):
    assert not is_reasoning(model)


def parameters(model, **told):
    return Parameters.of(model, ModelParameters(**told), include_usage=True).fields(REQUEST)


def test_settings_overrule_the_name():
    usage = {"stream_options": {"include_usage": True}}
    assert parameters("gpt-4o") == {"max_tokens": 50, "temperature": 0.5} | usage
    assert parameters("o3") == {"max_completion_tokens": 50} | usage
    assert (
        parameters(
            "x",
            max_tokens_field="max_completion_tokens",
            send_temperature=False,
            reasoning_effort="low",
        )
        == {"max_completion_tokens": 50, "reasoning_effort": "low"} | usage
    )
    assert (
        parameters("o3", max_tokens_field="max_tokens", send_temperature=True)
        == {
            "max_tokens": 50,
            "temperature": 0.5,
        }
        | usage
    )


def test_a_field_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="max_tokens_field: expected max_tokens or max_"):
        ModelParameters(max_tokens_field="tokens")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("max_tokens", {"max_completion_tokens": 50}),
        ("temperature", {"max_tokens": 50}),
        ("stream_options", {"max_tokens": 50, "temperature": 0.5}),
    ],
)
def test_the_limit_of_the_output_is_never_left_out(field, expected):
    sent = Parameters.of("x", ModelParameters(), include_usage=field == "stream_options")
    assert sent.without(field).fields(REQUEST) == expected


def test_a_limit_under_its_newer_name_goes_back_to_the_older():
    sent = Parameters.of("o3", ModelParameters(), include_usage=False)
    assert sent.without("max_completion_tokens").fields(REQUEST) == {"max_tokens": 50}


def refusal(message, **more):
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        # OpenAI and Azure
        (
            refusal(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                type="invalid_request_error",
                param="max_tokens",
                code="unsupported_parameter",
            ),
            "max_tokens",
        ),
        (
            refusal(
                "Unsupported value: 'temperature' does not support 0.7 with this model. Only the "
                "default (1) value is supported.",
                param="temperature",
                code="unsupported_value",
            ),
            "temperature",
        ),
        (refusal("Unrecognized request argument supplied: stream_options"), "stream_options"),
        # Groq
        (refusal("property 'stream_options' is unsupported"), "stream_options"),
        # FastAPI with pydantic: Mistral, vLLM
        (
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
            "stream_options",
        ),
        (refusal("temperature: Extra inputs are not permitted"), "temperature"),
        # A server that only says so
        ("Unknown parameter: 'stream_options'.", "stream_options"),
        # Values that are wrong, and other things that are unknown
        (refusal("max_tokens is too large: 5000. This model allows at most 4096"), ""),
        (refusal("The model does not exist", code="model_not_found"), ""),
        (refusal("Unknown model: foo"), ""),
        (refusal("Unsupported parameter: 'tools'", param="tools"), ""),
        (None, ""),
        ([[[[[[[[[[["temperature unsupported"]]]]]]]]]]], ""),
    ],
)
def test_a_refusal_names_a_field_of_ours(document, field):
    assert unsupported_field(read_refusal(document), SENT) == field
