"""Models: the catalogue of the models that clients may ask for. No I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec

from chatnest._util.arguments import check_integer, check_parts
from chatnest.conversation import Image
from chatnest.errors import ConfigurationError, UnknownModel
from chatnest.profiles import Profile
from chatnest.providers.base import Provider
from chatnest.tokens import TokenCounter, Tokenizer
from chatnest.tokens.image_rules import Detail, Flat, ImageRule, rule_of

__all__ = ["DEFAULT_MODEL", "Candidate", "Catalogue", "Model"]

DEFAULT_MODEL: Final = "default"
"""The name of the only model of an application without a catalogue."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that clients may ask for by its name in ``ChatNestApp(models={name: Model(...)})``.

    ``model`` is its upstream name. Default: the model of ``provider``, which may serve several.
    ``aliases`` are more names that clients may use, such as a name that their program has built in.
    ``context_window`` is the maximum tokens of input and output together. ``max_image_tokens`` is
    the maximum tokens of an image, for a model whose family has no known rule; without a rule, and
    without this, the model gets no images. ``image_detail`` is the resolution in which it sees
    them, where its provider lets us choose.

    Raises ConfigurationError.
    """

    provider: Provider
    model: str | None = None
    aliases: tuple[str, ...] = ()
    context_window: int | None = None
    max_image_tokens: int | None = None
    image_detail: Detail = "low"

    def __post_init__(self) -> None:
        check_parts(provider=self.provider)
        for name in ("context_window", "max_image_tokens"):
            if (value := getattr(self, name)) is not None:
                check_integer(f"models: {name}", value, 1)
        if self.model is not None and not self.model.strip():
            raise ConfigurationError(
                f"models: model: expected the name of a model, got {self.model!r}. Name one, or "
                "leave it out."
            )


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue as a turn uses it. ``name`` is the one in records and logs,
    ``upstream`` the one that the provider gets.
    """

    name: str
    provider: Provider
    upstream: str
    counter: TokenCounter
    aliases: tuple[str, ...] = ()
    context_window: int | None = None
    image_detail: Detail = "low"
    takes_images: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which a client may ask for it."""
        return (self.name, *self.aliases)


class Catalogue:
    """The models of an application, in their order. The first one is the default.

    Raises ConfigurationError for a name that is invalid, used twice, or unknown to a profile.
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

    @classmethod
    def of_one(cls, provider: Provider, profiles: Mapping[str, Profile]) -> "Catalogue":
        """The catalogue of an application with one provider and its own model."""
        aliases = () if provider.model == DEFAULT_MODEL else (DEFAULT_MODEL,)
        only = _candidate(provider.model, Model(provider=provider, aliases=aliases))
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

    def find(self, name: str, profiles: Iterable[Profile]) -> tuple[Profile, Candidate] | None:
        """The first of ``profiles`` that has a model of this name or alias, and the model."""
        for profile in profiles:
            for candidate in self.by_profile[profile.name]:
                if name in candidate.names:
                    return profile, candidate
        return None

    def refuse(self, profiles: Iterable[Profile]) -> UnknownModel:
        """The error for a name that none of these profiles has."""
        names = dict.fromkeys(
            candidate.name for profile in profiles for candidate in self.by_profile[profile.name]
        )
        return UnknownModel(tuple(names))

    def _of(self, profile: Profile) -> tuple[Candidate, ...]:
        if profile.models is None:
            return self._candidates
        by_name = {candidate.name: candidate for candidate in self._candidates}
        for name in profile.models:
            if name not in by_name:
                raise ConfigurationError(
                    f"profiles.{profile.name}.models: expected names of models "
                    f"({', '.join(by_name)}), got {name!r}."
                )
        return tuple(by_name[name] for name in profile.models)


def _candidate(name: str, model: Model) -> Candidate:
    if not isinstance(model, Model):
        raise ConfigurationError(
            f"models.{name}: expected a Model, got {type(model).__name__}. Pass Model(...)."
        )
    provider = model.provider
    upstream = model.model or provider.model
    counter = _counter_of(provider, upstream, model)
    return Candidate(
        name=name,
        provider=provider,
        upstream=upstream,
        counter=counter,
        aliases=tuple(model.aliases),
        context_window=model.context_window,
        image_detail=model.image_detail,
        takes_images=getattr(counter, "images", None) is not None,
    )


def _counter_of(provider: Provider, upstream: str, model: Model) -> TokenCounter:
    """The counter of a model, with the rule for its images."""
    counter = provider.counter
    if upstream != provider.model and isinstance(counter, Tokenizer):
        encoding = None if counter.exact else counter.encoding_name
        counter = Tokenizer.for_model(upstream, encoding=encoding)
    rule: ImageRule | None = rule_of(upstream)
    if model.max_image_tokens is not None:
        rule = Flat(model.max_image_tokens)
    if rule is None or not isinstance(counter, Tokenizer):
        return counter
    return replace(counter, images=partial(_image_tokens, rule, model.image_detail))


def _image_tokens(rule: ImageRule, detail: Detail, image: Image) -> int:
    if image.width and image.height:
        return rule.tokens(image.width, image.height, detail)
    return rule.worst(detail)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "models: expected names of at most 128 letters, digits and '.', '_', ':', '/', '@', "
            f"'-', got {name!r}."
        )
