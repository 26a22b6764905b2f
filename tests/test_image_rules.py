"""An image is never held for less than a provider charges, by the rule of its model."""

from itertools import product
from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatnest.tokens.image_rules import (
    Detail,
    Flat,
    Highest,
    ImageRule,
    Patches,
    Tiles,
    rule_of,
)

DETAILS: tuple[Detail, ...] = ("low", "high")


def rule(model: str) -> ImageRule:
    found = rule_of(model)
    assert found is not None, model
    return found


FAMILIES = (
    *("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o3", "o4-mini"),
    *("gpt-5", "gpt-5-codex", "gpt-5-mini", "gpt-5-nano", "gpt-5.2", "gpt-5.4", "gpt-5.4-nano"),
    *("gpt-6-astra", "claude-3-5-sonnet", "claude-opus-4-7", "gemini-3-pro"),
)
RULES = st.sampled_from([*map(rule, FAMILIES), Flat(500)])
SIDES = st.integers(1, 10_000) | st.sampled_from(
    [1, 28, 29, 32, 33, 512, 513, 767, 768, 769, 2_047, 2_048, 2_049, 65_535, 2**31 - 1]
)

# ---------------------------------------------------------------- what was documented and measured


@pytest.mark.parametrize(
    ("model", "detail", "size", "documented"),
    [
        ("gpt-4o", "high", (1_024, 1_024), 765),
        ("gpt-4o", "high", (2_048, 4_096), 1_105),
        ("gpt-4o", "high", (150, 150), 255),
        ("gpt-4o", "high", (512, 512), 255),
        ("gpt-4o", "high", (513, 512), 425),
        ("gpt-4o", "high", (4_032, 3_024), 765),
        ("gpt-4o", "high", (1_920, 1_080), 1_105),
        ("gpt-4o", "low", (4_096, 8_192), 85),
        ("gpt-4o-mini", "high", (150, 150), 8_500),
        ("gpt-4o-mini", "high", (1_024, 1_024), 25_501),
        ("gpt-4o-mini", "low", (1_024, 1_024), 2_833),
        ("gpt-5", "high", (1_024, 1_024), 630),
        ("o1", "high", (1_024, 1_024), 675),
        ("gpt-4.1-mini", "high", (1_024, 1_024), 1_659),
        ("gpt-4.1-nano", "high", (1_024, 1_024), 2_520),
        ("o4-mini", "high", (1_024, 1_024), 1_762),
        ("gpt-5.4", "high", (640, 480), 360),
        ("gpt-5.4", "high", (1_280, 720), 1_104),
        ("gemini-3-pro", "high", (4_032, 3_024), 1_200),
    ],
)
def test_examples_of_providers_come_out_exactly(model, detail, size, documented):
    width, height = size

    assert rule(model).tokens(width, height, detail) == documented


@pytest.mark.parametrize(
    ("model", "detail", "size", "charged"),
    [
        ("gpt-4.1", "high", (1_800, 2_400), 773),
        ("gpt-4.1", "high", (1_024, 1_024), 1_024),  # one of two contradicting documents
        ("gpt-4.1-mini", "high", (1_800, 2_400), 2_362),
        ("gpt-5-mini", "high", (256, 256), 77),
        ("gpt-5-mini", "high", (1_024, 1_024), 1_229),
        ("gpt-5-mini", "high", (2_048, 768), 1_844),
        ("gpt-5-mini", "high", (1_800, 1_200), 2_334),
        ("gpt-5.4", "low", (640, 480), 231),
        ("gpt-6-astra", "high", (4_032, 3_024), 2_942),
        ("gpt-6-astra", "high", (3_200, 960), 2_916),
        ("claude-sonnet-4-6", "high", (1_000, 1_000), 1_304),
        ("claude-sonnet-4-6", "high", (1_920, 1_080), 1_560),
        ("claude-sonnet-4-6", "high", (4_032, 3_024), 1_600),
        ("claude-opus-4-7", "high", (1_920, 1_080), 2_691),
        ("claude-opus-4-7", "high", (3_840, 2_160), 4_784),
        ("claude-opus-4-7", "low", (3_840, 2_160), 4_784),  # Claude knows no detail
        ("gemini-3-flash-preview", "low", (4_032, 3_024), 1_101),
    ],
)
def test_charges_that_were_seen_are_within_the_bound(model, detail, size, charged):
    width, height = size
    bound = rule(model).tokens(width, height, detail)

    assert charged <= bound <= max(2 * charged, charged + 200)


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [
        ("gpt-4o", 85, 1_445),
        ("gpt-4o-mini", 2_833, 48_169),
        ("gpt-4.1", 1_536, 1_536),
        ("gpt-5", 70, 1_190),
        ("gpt-4.1-mini", 2_489, 2_489),
        ("gpt-5-nano", 3_779, 3_779),
        ("gpt-5.4", 308, 3_000),
        ("gpt-6-astra", 308, 3_000),
        ("claude-sonnet-4-6", 1_700, 1_700),
        ("claude-opus-5", 4_900, 4_900),
        ("gemini-3.1-pro-preview", 1_200, 1_200),
    ],
)
def test_the_worst_case_of_a_family(model, low, high):
    assert (rule(model).worst("low"), rule(model).worst("high")) == (low, high)


# ---------------------------------------------------------------- whatever the size


@given(RULES, SIDES, SIDES, st.sampled_from(DETAILS))
def test_no_size_costs_more_than_the_worst_case_or_nothing(rule, width, height, detail):
    assert 0 < rule.tokens(width, height, detail) <= rule.worst(detail)


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("detail", DETAILS)
def test_some_size_costs_the_worst_case(model, detail):
    sizes = product((1, 768, 2_048, 5_000, 1_536 * 32), repeat=2)

    assert max(rule(model).tokens(w, h, detail) for w, h in sizes) == rule(model).worst(detail)


@given(RULES, SIDES, SIDES, st.sampled_from(DETAILS))
def test_an_image_that_is_turned_costs_the_same(rule, width, height, detail):
    """So the orientation in EXIF does not matter."""
    assert rule.tokens(width, height, detail) == rule.tokens(height, width, detail)


@given(RULES, SIDES, SIDES, st.integers(1, 50), st.sampled_from(DETAILS))
@example(rule("gpt-4o"), 683, 513, 3, "high")
def test_an_enlarged_image_costs_no_less(rule, width, height, times, detail):
    assert rule.tokens(width, height, detail) <= rule.tokens(width * times, height * times, detail)


PATCHES = st.sampled_from([r for r in map(rule, FAMILIES) if isinstance(r, Patches)])


@given(PATCHES, SIDES, SIDES, st.integers(0, 500), st.sampled_from(DETAILS))
def test_a_wider_image_has_no_fewer_patches(rule, width, height, more, detail):
    assert rule.tokens(width, height, detail) <= rule.tokens(width + more, height, detail)


# ---------------------------------------------------------------- the arithmetic of the documents


def documented_tiles(width: int, height: int, rounded: object) -> int:
    """The steps of OpenAI's guide, with a rounding of one's choice between them."""
    assert callable(rounded)
    w, h = float(width), float(height)
    if max(w, h) > 2_048:
        factor = 2_048 / max(w, h)
        w, h = max(1, rounded(w * factor)), max(1, rounded(h * factor))
    if min(w, h) > 768:
        factor = 768 / min(w, h)
        w, h = rounded(w * factor), rounded(h * factor)
    return ceil(w / 512) * ceil(h / 512)


@given(SIDES, SIDES, st.sampled_from([round, int, ceil]))
@example(5_504, 2_751, int)
@example(1_369, 1_026, round)
def test_tiles_are_never_fewer_than_the_guide_has(width, height, rounded):
    tokens = Tiles(0, 1).tokens(width, height, "high")

    assert tokens >= min(8, documented_tiles(width, height, rounded))


def documented_patches(width: int, height: int, cap: int) -> int:
    """The steps of OpenAI's guide for patches of 32 px."""
    if ceil(width / 32) * ceil(height / 32) <= cap:
        return ceil(width / 32) * ceil(height / 32)
    shrink = (32 * 32 * cap / (width * height)) ** 0.5
    w, h = width * shrink / 32, height * shrink / 32
    shrink *= min(int(w) / w, int(h) / h)
    return min(cap, ceil(int(width * shrink) / 32) * ceil(int(height * shrink) / 32))


@given(SIDES, SIDES, st.sampled_from([1_536, 2_500]))
@example(1_800, 2_400, 1_536)
def test_patches_are_never_fewer_than_the_guide_has(width, height, cap):
    tokens = Patches(side=32, cap=cap).tokens(width, height, "high")

    assert tokens >= documented_patches(width, height, cap)


def documented_claude(width: int, height: int, cap: int) -> int:
    """The largest size of the same proportions that fits, as Anthropic describes it."""
    long, short = max(width, height), min(width, height)

    def cost(side: int) -> int:
        other = max(1, round(side * short / long))
        fits = ceil(side / 28) * 28 <= edge
        return ceil(side / 28) * ceil(other / 28) if fits else cap + 1

    edge = 1_568 if cap == 1_568 else 2_576
    sides = range(min(long, edge), 0, -1)
    return next(cost(side) for side in sides if cost(side) <= cap)


@given(st.integers(1, 9_000), st.integers(1, 9_000), st.sampled_from([1_568, 4_784]))
def test_patches_are_never_fewer_than_claude_has(width, height, cap):
    tokens = Patches(side=28, cap=cap).tokens(width, height, "high")

    assert tokens >= documented_claude(width, height, cap)


@given(SIDES, SIDES, st.sampled_from(DETAILS))
def test_where_sources_disagree_the_higher_count_is_taken(width, height, detail):
    rules = (Tiles(85, 170), Patches(side=32, cap=1_536))

    assert Highest(rules).tokens(width, height, detail) == max(
        rule.tokens(width, height, detail) for rule in rules
    )


# ---------------------------------------------------------------- the model's name


NAMES = {
    "gpt-4o": (
        "gpt-4o-2024-08-06 openai/gpt-4o openrouter/openai/gpt-4o-2024-11-20 GPT-4o "
        "openai/gpt-4o:extended ft:gpt-4o-2024-08-06:org::id chatgpt-4o-latest gpt-4-turbo "
        "gpt-4-turbo-2024-04-09 gpt-4-vision-preview gpt-4-1106-vision-preview "
        "gpt-4.5-preview"
    ),
    "gpt-4o-mini": ("gpt-4o-mini-2024-07-18 openai/gpt-4o-mini ft:gpt-4o-mini:org"),
    "gpt-4.1": ("gpt-4.1-2025-04-14 openai/gpt-4.1"),
    "gpt-5.3": ("gpt-4.1-mini-2025-04-14 gpt-5-mini-2025-08-07 gpt-5.1-codex-mini gpt-5.2-pro"),
    "gpt-5": ("gpt-5-chat-latest gpt-5.1-2025-11-13 openai/gpt-5.1-chat"),
    "gpt-5-codex": ("gpt-5.1-codex gpt-5-pro-2025-10-06 openai/gpt-5.1-codex-max"),
    "gpt-6-astra": ("gpt-5.4-2026-03-05 gpt-5.5-pro openai/gpt-5.6-sol gpt-5.6-luna gpt-6"),
    "o3": ("o1-2024-12-17 o1-pro openai/o3-pro"),
    "claude-3-5-sonnet": (
        "claude-3-5-sonnet-20241022 anthropic/claude-3.5-sonnet claude-3-7-sonnet-latest "
        "anthropic.claude-3-haiku-20240307-v1:0 us.anthropic.claude-sonnet-4-20250514-v1:0 "
        "claude-opus-4-1@20250805 claude-3-5-sonnet-v2@20241022 anthropic/claude-opus-4.6 "
        "claude-haiku-4-5-20251001 anthropic/claude-3.7-sonnet:thinking claude-opus-4-6 "
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-opus-20240229-v1:0"
    ),
    "claude-opus-4-7": (
        "claude-opus-4-7 anthropic/claude-opus-4.8 claude-sonnet-5 claude-fable-5 "
        "claude-sonnet-5-5-20260901 global.anthropic.claude-opus-4-7-v1"
    ),
    "gemini-3-pro": (
        "gemini-3-pro-preview google/gemini-3.1-pro-preview models/gemini-3-flash-preview "
        "gemini-3.1-flash-lite-preview gemini-3-pro-preview-11-2025"
    ),
}


@pytest.mark.parametrize("family", NAMES)
def test_names_of_a_family_have_its_rule(family):
    for name in NAMES[family].split():
        assert rule_of(name) == rule(family), name


@pytest.mark.parametrize(
    "name",
    [
        *("my-gpt-4o", "gpt-4o-prod", "gpt4o", "chat", "deployment-1", "", "/", "gpt-4o\n"),
        *("gpt-4o-audio-preview", "gpt-4o-nano", "gpt-4o-mini-2", "gpt-4", "gpt-4-0613"),
        *("gpt-3.5-turbo", "gpt-35-turbo", "o1-mini", "o3-mini", "o4", "gpt-4.2", "gpt-6-mini"),
        *("gpt-7", "gpt-50", "gpt-5.10", "claude-2.1", "claude-instant-1", "claude-6-opus"),
        *("claude-opus-6", "claude-opus-4-70", "claude-opus", "gemini-2.5-pro", "gemini-4-pro"),
        *("gemini-1.5-flash", "llama-4-scout", "qwen2.5-vl-72b", "deepseek-chat", "pixtral-12b"),
        *("gpt-oss-120b", "x" * 1_000_000, "a/" * 500_000 + "gpt-4o"),
    ],
)
def test_a_name_that_is_not_known_has_no_rule(name):
    assert rule_of(name) is None
