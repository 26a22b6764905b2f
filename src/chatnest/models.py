"""Models: the catalogue of the models that clients may ask for. No I/O."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final, get_args

import msgspec

from chatnest._util.arguments import check_integer, check_parts
from chatnest.conversation import Image
from chatnest.errors import ConfigurationError, UnknownModel
from chatnest.prices import Prices, PricesGiven
from chatnest.profiles import DEFAULT_PROFILES, Profile, profile_name
from chatnest.providers.base import Provider
from chatnest.tokens import TokenCounter, Tokenizer
from chatnest.tokens.image_rules import Detail, Flat, ImageRule, rule_of
from chatnest.tokens.tokenizer import BYTES
from chatnest.tokens.tool_bounds import tool_tokens_of

__all__ = ["DEFAULT_MODEL", "Candidate", "Catalogue", "Model", "is_model_name"]

DEFAULT_MODEL: Final = "default"
"""The name of the only model of an application without a catalogue."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_PIXEL: Final = Image(media_type="image/png", data="", width=1, height=1)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that clients may ask for by its name in ``ChatNestApp(models={name: Model(...)})``.

    ``model`` is its upstream name. Default: the model of ``provider``, which may serve several.
    ``aliases`` are more names that clients may use, such as a name that their program has built in.
    ``context_window`` is the maximum tokens of input and output together. ``encoding`` counts its
    tokens; by default it is the provider's, or the one for the upstream name. ``max_image_tokens``
    is the maximum tokens of an image, for a model whose family has no known rule; without a rule,
    and without this, the model gets no images. ``image_detail`` is the resolution in which it sees
    them, where its provider lets us choose. ``prices`` are in dollars per million tokens, such as
    ``{"input": "0.25", "output": "2.00"}``, a list of them with dates, or ``"free"``. Without them
    the model cannot have a limit in money. ``trace`` is whether its calls carry the ``traceparent``
    of their trace; by default, the settings of the provider's server decide.

    Raises ConfigurationError.
    """

    provider: Provider
    model: str | None = None
    aliases: tuple[str, ...] = ()
    context_window: int | None = None
    encoding: str | None = None
    max_image_tokens: int | None = None
    image_detail: Detail = "low"
    prices: PricesGiven | None = None
    trace: bool | None = None

    def __post_init__(self) -> None:
        check_parts(provider=self.provider)
        for name in ("context_window", "max_image_tokens"):
            if (value := getattr(self, name)) is not None:
                check_integer(f"models: {name}", value, 1)
        detail: object = self.image_detail
        if detail not in get_args(Detail):
            raise ConfigurationError(
                f"models: image_detail: expected one of {', '.join(get_args(Detail))}, got "
                f"{detail!r}."
            )
        if self.model is not None and not self.model.strip():
            raise ConfigurationError(
                f"models: model: expected the name of a model, got {self.model!r}. Name one, or "
                "leave it out."
            )


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue as a turn uses it. ``name`` is the one in records and logs,
    ``upstream`` the one that the provider gets. ``least_image`` is the tokens of the smallest
    image, or None for a model that takes no images. ``least_output`` is the smallest limit of the
    output that its API accepts. ``added_tokens`` are those that its provider adds to the input of
    each request: the definitions of tools that it runs itself. ``prices`` is None for a model
    without a price, which is not a free one. ``api`` is the dialect of its provider, or empty, and
    ``trace`` whether its calls carry a ``traceparent``.
    """

    name: str
    provider: Provider
    upstream: str
    counter: TokenCounter
    aliases: tuple[str, ...] = ()
    context_window: int | None = None
    image_detail: Detail = "low"
    least_image: int | None = None
    least_output: int = 1
    added_tokens: int = 0
    prices: Prices | None = None
    api: str = ""
    trace: bool = False

    @property
    def takes_images(self) -> bool:
        """Whether the model gets images: only if we know how many tokens one may cost."""
        return self.least_image is not None

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which a client may ask for it."""
        return (self.name, *self.aliases)


class Catalogue:
    """The models of an application, in their order. The first one is the default.

    Raises ConfigurationError for a name that is invalid, used twice, or unknown to a profile, and
    for a profile that allows images or lengths that its models cannot have. Profiles that ship are
    not checked for images, because they have to fit any model.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        profiles: Mapping[str, Profile],
        *,
        any_name: bool = False,
    ) -> None:
        self._candidates = tuple(candidates)
        self.by_profile: dict[str, tuple[Candidate, ...]] = {
            name: self._of(profile) for name, profile in profiles.items()
        }
        """The models of each profile, in its order. The first one is its default."""
        taken: dict[str, str] = {}
        for candidate in candidates:
            for name in candidate.names:
                if not any_name:
                    _check_name(name)
                if taken.setdefault(name, candidate.name) != candidate.name:
                    raise ConfigurationError(
                        f"models: expected names and aliases of one model each, got {name!r} for "
                        f"{taken[name]!r} and {candidate.name!r}. Remove one of them."
                    )
        for profile in profiles.values():
            _check_lengths(profile, self.by_profile[profile.name])
            if profile.images and profile not in DEFAULT_PROFILES:
                _check_images(profile, self.by_profile[profile.name])

    @classmethod
    def of_one(
        cls,
        provider: Provider,
        profiles: Mapping[str, Profile],
        prices: PricesGiven | None = None,
    ) -> "Catalogue":
        """The catalogue of an application with one provider and its own model."""
        aliases = () if provider.model == DEFAULT_MODEL else (DEFAULT_MODEL,)
        found = None if prices is None else Prices.of(prices)
        model = Model(provider=provider, aliases=aliases, prices=found)
        only = _candidate(provider.model, model)
        return cls((only,), profiles, any_name=True)

    @classmethod
    def of(cls, models: Mapping[str, Model], profiles: Mapping[str, Profile]) -> "Catalogue":
        """The catalogue of ``models``, by name."""
        given: object = models
        if not isinstance(given, Mapping) or not given:
            raise ConfigurationError(
                f"models: expected a dict of at least one Model by name, got {models!r}."
            )
        return cls([_candidate(name, model) for name, model in models.items()], profiles)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All models."""
        return self._candidates

    @property
    def default(self) -> Candidate:
        """The first model."""
        return self._candidates[0]

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Each provider once."""
        return tuple({id(each.provider): each.provider for each in self._candidates}.values())

    @property
    def realm(self) -> str:
        """A text that differs between catalogues whose answers may differ."""
        if len(self._candidates) == 1:
            return self.default.upstream
        return "\0".join(f"{each.name}\0{each.upstream}" for each in self._candidates)

    @property
    def names_by_profile(self) -> dict[str, tuple[str, ...]]:
        """The names and aliases of the models of each profile."""
        return {
            profile: tuple(chain.from_iterable(each.names for each in candidates))
            for profile, candidates in self.by_profile.items()
        }

    def permitted(self, profile: Profile, only: Collection[str] | None) -> tuple[Candidate, ...]:
        """The models of a profile, in its order. ``only`` has a name or an alias of each model that
        may be used; None means all of them.
        """
        found = self.by_profile[profile.name]
        if only is None:
            return found
        return tuple(each for each in found if any(name in only for name in each.names))

    def find(
        self, name: str, profiles: Iterable[Profile], only: Collection[str] | None = None
    ) -> tuple[Profile, Candidate] | None:
        """The first of ``profiles`` that has a model of this name or alias, and the model."""
        for profile in profiles:
            for candidate in self.permitted(profile, only):
                if name in candidate.names:
                    return profile, candidate
        return None

    def names(
        self, profiles: Iterable[Profile], only: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """The names of all models of these profiles, without aliases."""
        found = chain.from_iterable(self.permitted(profile, only) for profile in profiles)
        return tuple(dict.fromkeys(each.name for each in found))

    def chosen(
        self, name: str, profiles: Sequence[Profile], only: Collection[str] | None = None
    ) -> tuple[Profile, Candidate]:
        """The profile and the model for the ``model`` of a request. The name is one of a model, in
        the first of ``profiles`` that has it; otherwise it is the name of one of them, whose first
        model answers. Raises UnknownModel.
        """
        if (found := self.find(name, profiles, only)) is not None:
            return found
        for profile in profiles:
            if profile.name == profile_name(name):
                return profile, self.permitted(profile, only)[0]
        raise UnknownModel(self.names(profiles, only))

    def _of(self, profile: Profile) -> tuple[Candidate, ...]:
        if profile.models is None:
            return self._candidates
        by_name = {name: each for each in self._candidates for name in each.names}
        for name in profile.models:
            if name not in by_name:
                known = ", ".join(each.name for each in self._candidates)
                raise ConfigurationError(
                    f"profiles.{profile.name}.models: expected names of models ({known}), got "
                    f"{name!r}. Correct the name, or add the model."
                )
        return tuple(by_name[name] for name in profile.models)


def _candidate(name: str, model: Model) -> Candidate:
    if not isinstance(model, Model):
        raise ConfigurationError(
            f"models.{name}: expected a Model, got {type(model).__name__}. Pass Model(...)."
        )
    provider = model.provider
    upstream = model.model or provider.model
    counter = _counter_of(name, provider, upstream, model)
    images = getattr(counter, "images", None)
    added: int = getattr(provider, "added_tokens", 0)
    return Candidate(
        name=name,
        provider=provider,
        upstream=upstream,
        counter=counter,
        aliases=tuple(model.aliases),
        context_window=model.context_window,
        image_detail=model.image_detail,
        least_image=None if images is None else images(_PIXEL),
        least_output=getattr(provider, "least_output_tokens", 1),
        added_tokens=added and added + tool_tokens_of(upstream),
        prices=None if model.prices is None else Prices.of(model.prices, f"models.{name}.prices"),
        api=getattr(provider, "api", ""),
        trace=getattr(provider, "trace", False) if model.trace is None else model.trace,
    )


def _counter_of(name: str, provider: Provider, upstream: str, model: Model) -> TokenCounter:
    """The counter of a model, with the rule for its images and the tokens for its tools."""
    counter = provider.counter
    if model.encoding is not None:
        try:
            counter = Tokenizer.for_model(upstream, encoding=model.encoding)
        except ValueError as exc:
            raise ConfigurationError(f"models.{name}.{exc}") from None
    elif upstream != provider.model and isinstance(counter, Tokenizer):
        encoding = counter.encoding_name if counter.encoding_name == BYTES else None
        counter = Tokenizer.for_model(upstream, encoding=encoding)
    rule: ImageRule | None = rule_of(upstream)
    if model.max_image_tokens is not None:
        rule = Flat(model.max_image_tokens)
    if not isinstance(counter, Tokenizer):
        return counter
    images = None if rule is None else partial(_image_tokens, rule, model.image_detail)
    return replace(counter, images=images, tool_tokens=tool_tokens_of(upstream))


def _image_tokens(rule: ImageRule, detail: Detail, image: Image) -> int:
    if image.width and image.height:
        return rule.tokens(image.width, image.height, detail)
    return rule.worst(detail)


def _check_lengths(profile: Profile, models: Sequence[Candidate]) -> None:
    """Raise ConfigurationError for a model whose window leaves no tokens for the input, or whose
    API accepts no answers as short as those of the profile.
    """
    least = min(profile.max_output_tokens, profile.min_output_tokens)
    for model in models:
        if profile.max_output_tokens < model.least_output:
            raise ConfigurationError(
                f"profiles.{profile.name}.max_output_tokens: expected at least "
                f"{model.least_output}, since the API of the model {model.name!r} accepts no "
                f"fewer, got {profile.max_output_tokens}. Raise it, or leave the model out of the "
                "profile's models."
            )
        if model.context_window is not None and model.context_window <= least:
            raise ConfigurationError(
                f"models.{model.name}.context_window: expected more than {least}, the minimum "
                f"output of the profile {profile.name!r}, got {model.context_window}. Raise it, or "
                "lower min_output_tokens of the profile."
            )


def _check_images(profile: Profile, models: Sequence[Candidate]) -> None:
    """Raise ConfigurationError if no request under the profile could have an image."""
    costs = {each.name: each.least_image for each in models if each.least_image is not None}
    if not costs:
        raise ConfigurationError(
            f"profiles.{profile.name}.images: expected a model that takes images, got "
            f"{', '.join(each.name for each in models)}. Set max_image_tokens of a model that "
            "takes them, or images = false."
        )
    name = min(costs, key=lambda each: costs[each])
    needed = costs[name] + min(profile.max_output_tokens, profile.min_output_tokens)
    for field in ("max_tokens_per_request", "daily_token_limit"):
        if (limit := getattr(profile, field)) <= needed:
            raise ConfigurationError(
                f"profiles.{profile.name}.images: expected {field} above {needed}, for an image of "
                f"at least {costs[name]} tokens ({name}) and the minimum output, got {limit}. "
                f"Raise {field}, or set images = false."
            )


def is_model_name(name: object) -> bool:
    """Whether a model of a catalogue can have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _check_name(name: object) -> None:
    if not is_model_name(name):
        raise ConfigurationError(
            "models: expected names of at most 128 letters, digits and '.', '_', ':', '/', '@', "
            f"'-', got {name!r}."
        )
