"""Catalogue: the providers and models of a configuration, as ChatNestApp takes them."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar, assert_never

import msgspec

from chatnest.config.demo import demo_models
from chatnest.config.mixtures import (
    check_mixture,
    is_set,
    place_of_provider,
    provider_section,
)
from chatnest.config.prices import prices_of
from chatnest.config.sections import (
    DEFAULT_PROVIDER,
    Api,
    Config,
    ModelSection,
    NamedProvider,
    ProviderSection,
)
from chatnest.config.sources import split_argument
from chatnest.errors import ConfigurationError
from chatnest.models import Catalogue, Model
from chatnest.providers import (
    AnthropicProvider,
    DemoProvider,
    ModelParameters,
    OpenAIProvider,
    OpenAIResponsesProvider,
    Provider,
    ResponsesParameters,
    ServerSettings,
)

__all__ = [
    "ModelFacts",
    "address_of",
    "facts_of",
    "key_variable",
    "models_of",
    "place_of",
    "provider_of",
    "used_providers",
]


_P = TypeVar("_P", bound=msgspec.Struct)


class _Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How an API is served. ``variables`` are read for arguments without a setting, and ``unknown``
    are the settings that the API does not have.
    """

    provider: Callable[..., Provider]
    variables: Mapping[str, str]
    unknown: tuple[str, ...] = ()


_OPENAI: Final[Mapping[str, str]] = {
    "api_key": "OPENAI_API_KEY",
    "base_url": "OPENAI_BASE_URL",
    "organization": "OPENAI_ORG_ID",
    "project": "OPENAI_PROJECT_ID",
}

_DIALECTS: Final[Mapping[Api, _Dialect]] = {
    "openai-chat": _Dialect(
        provider=OpenAIProvider,
        variables=_OPENAI,
        unknown=("reasoning_summary",),
    ),
    "openai-responses": _Dialect(
        provider=OpenAIResponsesProvider,
        variables=_OPENAI,
        unknown=("include_usage", "max_tokens_field", "think_tags"),
    ),
    "anthropic-messages": _Dialect(
        provider=AnthropicProvider,
        variables={"api_key": "ANTHROPIC_API_KEY", "base_url": "ANTHROPIC_BASE_URL"},
        unknown=(
            *("include_usage", "organization", "project"),
            *("max_tokens_field", "send_temperature", "reasons", "reasoning_effort"),
            *("reasoning_summary", "think_tags"),
        ),
    ),
}
"""Each API, with the class of its providers."""

# ---------------------------------------------------------------- what a configuration has


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it is shown to the operator. It has no secrets and no addresses."""

    name: str
    model: str
    provider: str
    aliases: tuple[str, ...]
    images: bool
    context_window: int | None
    profiles: tuple[str, ...]

    def __str__(self) -> str:
        takes = "text and images" if self.images else "text"
        window = f", {self.context_window:,} tokens" if self.context_window else ""
        profiles = ", ".join(self.profiles) or "no profile"
        return f"{self.model} at {self.provider}, {takes}{window}; in {profiles}"


def facts_of(config: Config, catalogue: Catalogue) -> list[ModelFacts]:
    """The models of a catalogue that was built from this configuration."""
    facts = []
    for each in catalogue.candidates:
        section = config.models.get(each.name)
        provider = DEFAULT_PROVIDER if section is None else section.provider
        profiles = [name for name, models in catalogue.by_profile.items() if each in models]
        facts.append(
            ModelFacts(
                name=each.name,
                model=each.upstream,
                provider="demo" if config.demo else provider,
                aliases=each.aliases,
                images=each.takes_images,
                context_window=each.context_window,
                profiles=tuple(profiles),
            )
        )
    return facts


def place_of(config: Config, model: str) -> str:
    """The place of the settings of a model's provider."""
    section = config.models.get(model)
    return "provider" if section is None else place_of_provider(section.provider)


def used_providers(config: Config) -> dict[str, NamedProvider]:
    """The providers that models of the configuration use, by the place of their settings."""
    if not config.models:
        return {"provider": config.provider}
    check_mixture(config)
    names = dict.fromkeys(model.provider for model in config.models.values())
    return {place_of_provider(name): provider_section(config, name) for name in names}


def key_variable(section: NamedProvider) -> str:
    """The environment variable of a provider's key."""
    return section.api_key_env or _DIALECTS[section.api].variables["api_key"]


def address_of(section: NamedProvider) -> str:
    """The address of a provider from its settings or the environment, or empty for that of the
    API's owner.
    """
    variable = _DIALECTS[section.api].variables["base_url"]
    return section.base_url or os.environ.get(variable) or ""


# ---------------------------------------------------------------- building


def provider_of(config: Config) -> Provider:
    """The provider of a configuration without [models] that is not a demo. Raises
    ConfigurationError.
    """
    check_mixture(config)
    section = config.provider
    if section.api == "anthropic-messages" and not is_set(config, "model"):
        raise ConfigurationError(
            f"provider.api: expected the name of a model of {section.api} in provider.model, got "
            "none. Name one, such as claude-haiku-4-5."
        )
    only = {"model": section.model, "encoding": section.encoding}
    return _build("provider", section, "provider", section, only)


def models_of(config: Config) -> dict[str, Model] | None:
    """The models of a configuration, by name, or None without [models]; a demo has its own. Models
    of one provider share its object and its connections, unless their requests have other fields.

    Raises ConfigurationError.
    """
    if not config.models and not config.demo:
        return None
    check_mixture(config)
    if not config.models:
        return demo_models(config)
    built: dict[tuple[object, ...], Provider] = {}
    models: dict[str, Model] = {}
    demo = DemoProvider() if config.demo else None
    for name, section in config.models.items():
        place = f"models.{name}"
        upstream = section.model if section.model is not None else name
        parameters = _parameters(section)
        provider = demo or built.get((section.provider, *parameters.values()))
        if provider is None:
            server = provider_section(config, section.provider)
            server_place = place_of_provider(section.provider)
            provider = _build(server_place, server, place, section, {"model": upstream})
            built[section.provider, *parameters.values()] = provider
        with _naming(place):
            models[name] = Model(
                provider=provider,
                model=upstream,
                aliases=tuple(section.aliases),
                context_window=section.context_window,
                encoding=section.encoding,
                max_image_tokens=section.max_image_tokens,
                image_detail=section.image_detail,
                trace=section.trace,
                prices=prices_of(place, section),
            )
    return models


def _parameters(section: ModelSection | ProviderSection) -> dict[str, Any]:
    """The settings of a model that its provider object has, as the same for all its requests."""
    names = dict.fromkeys(
        (*ModelParameters.__struct_fields__, *ResponsesParameters.__struct_fields__)
    )
    return {name: getattr(section, name) for name in names}


def _only(kind: type[_P], parameters: Mapping[str, Any]) -> _P:
    """The parameters of one API."""
    return kind(**{name: parameters[name] for name in kind.__struct_fields__})


def _build(
    place: str,
    section: NamedProvider,
    model_place: str,
    model: ModelSection | ProviderSection,
    upstream: dict[str, str | None],
) -> Provider:
    """Build the provider of one section, for a model of another or of the same. ``upstream`` are
    the arguments ``model`` and ``encoding``.
    """
    _check_known(place, section, section.api)
    _check_known(model_place, model, section.api)
    arguments = upstream | {"base_url": section.base_url, "api_key": _key(place, section)}
    account: dict[str, Any] = {
        "organization": section.organization,
        "project": section.project,
    }
    parameters = _parameters(model)
    names = dict.fromkeys(("model", "encoding", *parameters), model_place)
    for argument, variable in _DIALECTS[section.api].variables.items():
        if argument == "api_key":
            names[argument] = key_variable(section)
        elif getattr(section, argument) is None:
            names[argument] = variable
    with _naming(place, names):
        settings = ServerSettings(
            headers=_headers(place, section),
            query=section.query,
            proxy=section.proxy,
            ca_file=section.ca_file,
            trust_env=section.trust_env,
            trace=section.trace,
        )
        match section.api:
            case "openai-chat":
                account["include_usage"] = section.include_usage
                account["parameters"] = _only(ModelParameters, parameters)
            case "openai-responses":
                account["parameters"] = _only(ResponsesParameters, parameters)
            case "anthropic-messages":
                account = {}
            case _:
                assert_never(section.api)
        return _DIALECTS[section.api].provider(server=settings, **arguments, **account)


def _key(place: str, section: NamedProvider) -> str | None:
    variable = key_variable(section)
    key = os.environ.get(variable)
    if not key and section.api_key_env:
        raise ConfigurationError(
            f"{place}.api_key_env: expected an environment variable that is set, got {variable!r}. "
            "Set it, or name another one."
        )
    if not key and not address_of(section):
        raise ConfigurationError(
            f"{variable}: expected the key of [{place}], got none. Set it, or name another "
            f"variable in {place}.api_key_env."
        )
    return key


def _headers(place: str, section: NamedProvider) -> dict[str, str]:
    """Return additional header fields, with the values of ``headers_env`` from the environment.

    Underscores in names become hyphens, because names of variables cannot contain hyphens.
    """
    headers = dict(section.headers)
    for name, variable in section.headers_env.items():
        if variable not in os.environ:
            raise ConfigurationError(
                f"{place}.headers_env[{name!r}]: expected an environment variable that is set, "
                f"got {variable!r}. Set it, or remove the field."
            )
        headers[name] = os.environ[variable].strip()
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def _naming(place: str, names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Within this block, rewrite an error about an argument to name its setting below ``place``.
    ``names`` has the place of other arguments, or their environment variable.
    """
    try:
        yield
    except ConfigurationError as exc:
        if exc.detail.startswith(f"{place}."):
            raise
        detail = exc.detail.removeprefix("models: ")
        argument, rest = split_argument(detail)
        other = (names or {}).get(argument, place)
        key = other if other.isupper() else f"{other}.{argument}"
        raise ConfigurationError(key + rest) from exc


def _check_known(place: str, section: msgspec.Struct, api: Api) -> None:
    """Raise ConfigurationError for a setting that the API does not have."""
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if field.name in _DIALECTS[api].unknown and value != field.default:
            raise ConfigurationError(
                f"{place}.{field.name}: expected a setting of the API {api}, got one of other "
                "APIs. Remove it."
            )
