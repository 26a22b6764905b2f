"""Profiles are valid by construction, and none is above a cap."""

import msgspec
import pytest

from chatnest.bounds import Bounds
from chatnest.errors import ConfigurationError
from chatnest.profiles import (
    ASSISTANT,
    BALANCED,
    CONSTRAINED,
    DEFAULT_PROFILES,
    EXPANDED,
    HARD_CAPS,
    PROFILE_ALIASES,
    HardCaps,
    Profile,
    check_profiles,
)

REQUIRED = [field.name for field in msgspec.structs.fields(Profile) if field.required]
NO_CAPS = HardCaps(**dict.fromkeys(HardCaps.__struct_fields__))


def balanced(**changes):
    return msgspec.structs.replace(BALANCED, **changes)


@pytest.mark.parametrize(
    ("profile", "figures"),
    [
        (CONSTRAINED, ("constrained", 150, 4, 0.5, 30_000, 2_048, 15, 4, 64)),
        (BALANCED, ("balanced", 400, 6, 0.7, 70_000, 2_048, 30, 4, 64)),
        (EXPANDED, ("expanded", 3_000, 12, 0.8, 200_000, 12_000, 60, 4, 64)),
        (HARD_CAPS, (4_096, 20, 2.0, 500_000, 32_000, 60, None)),  # 16,000 before `assistant`
    ],
)
def test_the_figures_are_those_of_chat_nest(profile, figures):
    assert msgspec.structs.astuple(profile)[: len(figures)] == figures


@pytest.mark.parametrize("profile", [CONSTRAINED, BALANCED, EXPANDED], ids=lambda p: p.name)
def test_profiles_of_chat_nest_allow_text_alone(profile):
    plain = Profile(**{name: getattr(profile, name) for name in REQUIRED})
    assert plain == profile
    assert not any(getattr(plain, name) for name in ("images", "tools", "structured_output"))
    assert (plain.models, plain.max_reasoning_effort) == (None, None)


def test_old_names_stand_for_profiles_that_exist():
    assert PROFILE_ALIASES == {
        "budget": "constrained",
        "moderate": "balanced",
        "free": "expanded",
    }
    assert set(PROFILE_ALIASES.values()) < {profile.name for profile in DEFAULT_PROFILES}


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "5", None, float("nan")])
@pytest.mark.parametrize(
    "field",
    [
        "max_output_tokens",
        "max_messages",
        "daily_token_limit",
        "max_tokens_per_request",
        "requests_per_minute",
        "max_concurrent_streams",
        "min_output_tokens",
    ],
)
def test_a_count_is_a_whole_number_of_at_least_one(field, value):
    with pytest.raises(ConfigurationError) as caught:
        balanced(**{field: value})

    assert caught.value.detail == (
        f"profiles.balanced.{field}: expected an integer >= 1, got {value!r}."
    )


@pytest.mark.parametrize("value", [-0.1, 2.1, True, float("nan"), float("inf"), -1, "0.5", None])
def test_a_temperature_is_from_0_to_2(value):
    with pytest.raises(ConfigurationError) as caught:
        balanced(temperature=value)

    assert caught.value.detail == (
        f"profiles.balanced.temperature: expected a number from 0 to 2, got {value!r}."
    )


@pytest.mark.parametrize("value", [0, 0.0, 1, 2, 2.0])
def test_a_temperature_may_be_at_its_ends(value):
    assert balanced(temperature=value).temperature == value


def test_profiles_are_kept_by_name_in_their_order():
    assert check_profiles(iter(DEFAULT_PROFILES), HARD_CAPS) == {
        "constrained": CONSTRAINED,
        "balanced": BALANCED,
        "expanded": EXPANDED,
        "assistant": ASSISTANT,
    }


@pytest.mark.parametrize(
    ("field", "value", "said", "cap"),
    [
        ("max_output_tokens", 4_097, "4097", "4096"),
        ("max_messages", 21, "21", "20"),
        ("daily_token_limit", 500_001, "500001", "500000"),
        ("daily_token_limit", 1_234_567, "1234567", "500000"),
        ("max_tokens_per_request", 32_001, "32001", "32000"),
        ("requests_per_minute", 61, "61", "60"),
    ],
)
def test_a_profile_above_a_cap_is_an_error_with_both_values(field, value, said, cap):
    with pytest.raises(ConfigurationError) as caught:
        check_profiles([balanced(**{field: value})], HARD_CAPS)

    assert caught.value.detail == (
        f"profiles.balanced.{field}: expected at most hard_caps.{field} = {cap}, got {said}. "
        "Lower the profile or raise the cap."
    )


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        (HardCaps(temperature=0.5), r"profiles\.balanced\.temperature: .* = 0\.5, got 0\.7\. "),
        (HardCaps(max_concurrent_streams=3), r"max_concurrent_streams: .* = 3, got 4\. "),
        (HardCaps(daily_token_limit=69_999), r"daily_token_limit: .* = 69999, got 70000\. "),
    ],
)
def test_caps_are_settings(caps, message):
    with pytest.raises(ConfigurationError, match=message):
        check_profiles([BALANCED], caps)


def test_a_cap_may_be_met_or_taken_away():
    huge = balanced(
        max_output_tokens=10**6,
        max_messages=900,
        daily_token_limit=10**9,
        requests_per_minute=10**4,
    )

    assert check_profiles([balanced(max_messages=20)], HARD_CAPS)
    assert check_profiles([huge], NO_CAPS) == {"balanced": huge}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"max_tokens_per_request": 50},
            "max_tokens_per_request: expected more than min_output_tokens = 64, got 50",
        ),
        (
            {"max_tokens_per_request": 64},
            "max_tokens_per_request: expected more than min_output_tokens = 64, got 64",
        ),
        (
            {"max_output_tokens": 20, "max_tokens_per_request": 20},
            "max_tokens_per_request: expected more than max_output_tokens = 20, got 20",
        ),
        (
            {"daily_token_limit": 300, "min_output_tokens": 300},
            "daily_token_limit: expected more than min_output_tokens = 300, got 300",
        ),
    ],
)
def test_a_profile_that_can_serve_nobody_is_an_error_with_both_values(changes, words):
    with pytest.raises(ConfigurationError) as caught:
        check_profiles([balanced(**changes)], HARD_CAPS)

    assert caught.value.detail == (
        f"profiles.balanced.{words}, which leaves no tokens for the input. Raise the first or "
        "lower the second."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens_per_request": 65},
        {"max_output_tokens": 20, "max_tokens_per_request": 50},
        {"max_output_tokens": 20},  # what it is lowered to is less than the least by default
        {"max_output_tokens": 3_000},  # chat-nest takes it, and lowers it to what has room
        {"daily_token_limit": 100},
    ],
)
def test_a_profile_that_is_lowered_by_another_of_its_limits_is_served(changes):
    assert check_profiles([balanced(**changes)], HARD_CAPS)


@pytest.mark.parametrize("name", ["Small", "sm all", "", " x", "kürzer", "-a", ".", "a/b", "a\n"])
def test_a_name_of_other_letters_is_refused_with_the_rule(name):
    with pytest.raises(ConfigurationError) as caught:
        check_profiles([balanced(name=name)], HARD_CAPS)

    assert caught.value.detail == (
        "profiles: expected a name of lower-case ASCII letters, digits, '.', '_' and '-' that "
        f"begins with a letter or a digit, got {name!r}."
    )


@pytest.mark.parametrize("name", ["small-2", "s_m", "a.b", "2x", "x"])
def test_a_name_of_these_letters_is_taken(name):
    assert set(check_profiles([balanced(name=name)], HARD_CAPS)) == {name}


@pytest.mark.parametrize("name", PROFILE_ALIASES)
def test_a_name_that_clients_use_for_another_is_refused(name):
    expected = rf"^profiles\.{name}: expected a name that is not an alias, got the alias of "
    with pytest.raises(ConfigurationError, match=expected):
        check_profiles([balanced(name=name)], HARD_CAPS)


def test_one_profile_is_a_list_too():
    with pytest.raises(ConfigurationError, match="expected a list of Profile objects, got one"):
        check_profiles(BALANCED, HARD_CAPS)  # type: ignore[arg-type]  # what it is about


def test_a_name_stands_for_one_profile():
    with pytest.raises(ConfigurationError, match=r"^profiles: .*, got 'balanced' twice\."):
        check_profiles([BALANCED, balanced(max_messages=5)], HARD_CAPS)


def test_at_least_one_profile_is_needed():
    with pytest.raises(ConfigurationError, match=r"^profiles: expected at least one Profile, "):
        check_profiles([], HARD_CAPS)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", None])
@pytest.mark.parametrize("field", Bounds.__struct_fields__)
def test_every_bound_is_greater_than_zero(field, value):
    if value is None and field in {"first_byte_seconds", "stream_seconds"}:
        return  # by the provider
    with pytest.raises(ConfigurationError) as caught:
        Bounds(**{field: value})

    assert caught.value.detail == f"bounds.{field}: expected a number > 0, got {value!r}."
