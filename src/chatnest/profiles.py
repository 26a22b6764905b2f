"""Profile: the limits of one kind of user. Also the three default profiles, and caps. No I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, get_args

import msgspec

from chatnest._util.arguments import check_integer
from chatnest.errors import ConfigurationError
from chatnest.requests import Effort

__all__ = [
    "ASSISTANT",
    "BALANCED",
    "CONSTRAINED",
    "DEFAULT_PROFILES",
    "EXPANDED",
    "HARD_CAPS",
    "PROFILE_ALIASES",
    "HardCaps",
    "Profile",
    "bounds_above",
    "check_profiles",
    "profile_name",
]


def _check_models(name: str, models: object) -> None:
    if models is None:
        return
    if not isinstance(models, tuple) or not all(isinstance(each, str) for each in models):
        raise ConfigurationError(
            f"profiles.{name}.models: expected a tuple of names of models, got {models!r}."
        )
    if not models:
        raise ConfigurationError(
            f"profiles.{name}.models: expected at least one name, got none. Leave it out for all "
            "models."
        )


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one kind of user. Tokens, messages, requests and streams are counts.

    ``max_tokens_per_request`` bounds input and output together. The maximum output of a request is
    lowered to the tokens that are left. Below ``min_output_tokens`` the request is refused.

    ``models`` are the names of its models; None means all of them. A client may send images, tools,
    an output format (``structured_output``), ``stop`` words, a ``seed``, and the temperature and
    its like (``sampling``), or ask for a reasoning effort, only where the profile allows it.
    ``max_reasoning_tokens`` is the share of thinking in an answer, beside ``max_output_tokens``.
    ``max_tool_messages`` bounds the calls and results of one tool turn, which counts as one message
    of ``max_messages``.
    """

    name: str
    max_output_tokens: int
    max_messages: int
    temperature: float
    daily_token_limit: int
    max_tokens_per_request: int
    requests_per_minute: int
    max_concurrent_streams: int = 4
    min_output_tokens: int = 64
    models: tuple[str, ...] | None = None
    images: bool = False
    tools: bool = False
    structured_output: bool = False
    stop: bool = False
    seed: bool = False
    sampling: bool = False
    max_reasoning_effort: Effort | None = None
    max_reasoning_tokens: int | None = None
    max_images: int = 4
    max_tools: int = 64
    max_tool_messages: int = 32

    def __post_init__(self) -> None:
        for field in _COUNTS:
            check_integer(f"profiles.{self.name}.{field}", getattr(self, field), 1)
        if (share := self.max_reasoning_tokens) is not None:
            check_integer(f"profiles.{self.name}.max_reasoning_tokens", share, 1)
        for field in _SWITCHES:
            value: object = getattr(self, field)
            if not isinstance(value, bool):
                raise ConfigurationError(
                    f"profiles.{self.name}.{field}: expected true or false, got {value!r}."
                )
        effort: object = self.max_reasoning_effort
        if effort is not None and effort not in get_args(Effort):
            raise ConfigurationError(
                f"profiles.{self.name}.max_reasoning_effort: expected one of "
                f"{', '.join(get_args(Effort))}, got {effort!r}."
            )
        _check_models(self.name, self.models)
        temperature: object = self.temperature
        if (
            isinstance(temperature, bool)
            or not isinstance(temperature, int | float)
            or not 0 <= temperature <= 2  # noqa: PLR2004  # OpenAI's range
        ):
            raise ConfigurationError(
                f"profiles.{self.name}.temperature: expected a number from 0 to 2, "
                f"got {temperature!r}."
            )


class HardCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Caps that every profile must stay within. None means no cap."""

    max_output_tokens: int | None = 4_096
    max_messages: int | None = 20
    temperature: float | None = 2.0
    daily_token_limit: int | None = 500_000
    max_tokens_per_request: int | None = 32_000
    requests_per_minute: int | None = 60
    max_concurrent_streams: int | None = None


_SWITCHES: Final = ("images", "tools", "structured_output", "stop", "seed", "sampling")
_COUNTS: Final = tuple(
    field.name
    for field in msgspec.structs.fields(Profile)
    if field.type is int  # each of them at least 1
)

CONSTRAINED: Final = Profile(
    name="constrained",
    max_output_tokens=150,
    max_messages=4,
    temperature=0.5,
    daily_token_limit=30_000,
    max_tokens_per_request=2_048,
    requests_per_minute=15,
)
BALANCED: Final = Profile(
    name="balanced",
    max_output_tokens=400,
    max_messages=6,
    temperature=0.7,
    daily_token_limit=70_000,
    max_tokens_per_request=2_048,
    requests_per_minute=30,
)
EXPANDED: Final = Profile(
    name="expanded",
    max_output_tokens=3_000,
    max_messages=12,
    temperature=0.8,
    daily_token_limit=200_000,
    max_tokens_per_request=12_000,
    requests_per_minute=60,
)
ASSISTANT: Final = Profile(
    name="assistant",
    max_output_tokens=4_000,
    max_messages=20,
    temperature=0.7,
    daily_token_limit=500_000,
    max_tokens_per_request=32_000,
    requests_per_minute=60,
    images=True,
    tools=True,
    structured_output=True,
    stop=True,
    seed=True,
    sampling=True,
    max_reasoning_effort="medium",
    max_reasoning_tokens=4_000,
)
"""For conversations with images and tools, and for programs that were written for OpenAI. It is
closed by default, as ``expanded`` is.
"""

DEFAULT_PROFILES: Final = (CONSTRAINED, BALANCED, EXPANDED, ASSISTANT)
HARD_CAPS: Final = HardCaps()

PROFILE_ALIASES: Final[Mapping[str, str]] = {
    "budget": "constrained",
    "moderate": "balanced",
    "free": "expanded",
}
"""Profile names of chat-nest-server 1.0 → ours. Its clients still send them."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


def check_profiles(profiles: Iterable[Profile], caps: HardCaps) -> dict[str, Profile]:
    """Profiles by name, each within the caps.

    Raises ConfigurationError for a value above its cap: clamping it silently would apply other
    limits than the operator wrote. Raises it also for a profile that could serve no request.
    """
    if isinstance(profiles, Profile):
        raise ConfigurationError(
            "profiles: expected a list of Profile objects, got one Profile. Put it in a list."
        )
    named: dict[str, Profile] = {}
    for profile in profiles:
        if not isinstance(profile, Profile):
            raise ConfigurationError(
                f"profiles: expected a list of Profile objects, got {profile!r} in it."
            )
        _check_name(profile.name)
        if profile.name in named:
            raise ConfigurationError(
                f"profiles: expected a name for each profile, got {profile.name!r} twice. "
                "Rename or remove one of them."
            )
        _check_caps(profile, caps)
        _check_sense(profile)
        named[profile.name] = profile
    if not named:
        raise ConfigurationError(
            "profiles: expected at least one Profile, got none. Leave it out for the default ones."
        )
    return named


def bounds_above(profile: Profile, other: Profile) -> list[str]:
    """The bounds that have a hard cap and in which ``profile`` allows more than ``other``."""
    return [
        name for name in HardCaps.__struct_fields__ if getattr(profile, name) > getattr(other, name)
    ]


def _check_name(name: str) -> None:
    if name in PROFILE_ALIASES:
        raise ConfigurationError(
            f"profiles.{name}: expected a name that is not an alias, got the alias of "
            f"{PROFILE_ALIASES[name]!r}. Choose another; the aliases are "
            f"{', '.join(PROFILE_ALIASES)}."
        )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "profiles: expected a name of lower-case ASCII letters, digits, '.', '_' and '-' that "
            f"begins with a letter or a digit, got {name!r}."
        )


def _check_caps(profile: Profile, caps: HardCaps) -> None:
    for field in HardCaps.__struct_fields__:
        cap, value = getattr(caps, field), getattr(profile, field)
        if cap is not None and value > cap:
            raise ConfigurationError(
                f"profiles.{profile.name}.{field}: expected at most hard_caps.{field} = {cap}, "
                f"got {value}. Lower the profile or raise the cap."
            )


def _check_sense(profile: Profile) -> None:
    """Raise ConfigurationError if the minimum output leaves no tokens for the input."""
    field = min(("max_output_tokens", "min_output_tokens"), key=lambda name: getattr(profile, name))
    least = getattr(profile, field)
    for total in ("max_tokens_per_request", "daily_token_limit"):
        if getattr(profile, total) <= least:
            raise ConfigurationError(
                f"profiles.{profile.name}.{total}: expected more than {field} = {least}, "
                f"got {getattr(profile, total)}, which leaves no tokens for the input. Raise the "
                "first or lower the second."
            )
    if (thinking := profile.max_reasoning_tokens) is None:
        return
    for total in ("max_tokens_per_request", "daily_token_limit"):
        room = getattr(profile, total) - least
        if thinking >= room:
            raise ConfigurationError(
                f"profiles.{profile.name}.max_reasoning_tokens: expected less than {total} - "
                f"{field} = {room}, got {thinking}, which leaves no tokens for "
                f"the input. Set {total} = {getattr(profile, total) + thinking}, the "
                f"{getattr(profile, total)} of now and the thinking, or lower max_reasoning_tokens."
            )


def profile_name(name: str) -> str:
    """A profile's current name, from any spelling that chat-nest's clients use."""
    name = name.strip().lower() if name.isascii() else name
    return PROFILE_ALIASES.get(name, name)
