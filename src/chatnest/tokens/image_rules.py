"""ImageRule: how many tokens an image costs at most, by the family of the model. No I/O.

Every count is an upper bound: sizes are rounded up, and where two sources differ the higher figure
is taken. Providers resize large images; a resized image never has more patches than the original or
than the cap, so the arithmetic of a resize is not repeated here. Sources, of 2024 to 2026:

- [guide] OpenAI, "Images and vision", with the tables of sizing behavior and of costs.
- [calculator] OpenAI's price calculator: an image of 150 x 150 px costs 255 tokens on gpt-4o and
  8,500 on gpt-4o-mini, so small images are not enlarged.
- [measured] Usage figures of the APIs, as users published them.
- [claude] Anthropic, "Vision" and "Coordinates and bounding boxes".
- [gemini] Google, "Media resolution", for the Gemini API.

`detail` is "low" or "high". A request must name it: left out, or with "auto" and "original", newer
models have no cap that could be relied on (an image of 12 megapixels cost 14,364 tokens
[measured]).
"""

import re
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["Detail", "Flat", "Highest", "ImageRule", "Patches", "Tiles", "rule_of"]

Detail = Literal["low", "high"]
"""The resolution that a request asks for."""

_BOX: Final = 2_048
"""The square, in pixels, into which an image is shrunk before it is cut into tiles."""
_SHORT_SIDE: Final = 768
"""Maximum of the shorter side, in pixels, when an image is cut into tiles."""
_TILE: Final = 512
"""The side of a tile, in pixels."""
_MOST_TILES: Final = 8
"""The tiles of the largest shrunk image, 768 x 2,048 px."""


class Tiles(msgspec.Struct, frozen=True):
    """Tokens for the image and for each of its tiles, after it was shrunk to 2,048 px and then to
    768 px on the shorter side. With low detail, only those for the image.
    """

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: Detail) -> int:
        """Maximum tokens of an image of this size in pixels."""
        if detail == "low":
            return self.base
        short, long = sorted((width, height))
        shorter = short  # shrunk to the box and rounded down, as a provider may do
        if long > _BOX:
            shorter, short, long = short * _BOX // long, _up(short * _BOX, long), _BOX
        if shorter > _SHORT_SIDE:
            short, long = _SHORT_SIDE, min(_BOX, _up(_SHORT_SIDE * long, shorter))
        return self.base + self.tile * _up(short, _TILE) * _up(long, _TILE)

    def worst(self, detail: Detail) -> int:
        """Maximum tokens of an image of any size."""
        return self.base if detail == "low" else self.base + self.tile * _MOST_TILES


class Patches(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens for each patch, a square of ``side`` pixels, up to ``cap`` patches.

    ``percent`` is the model's multiplier in hundredths. ``low`` is the cap with low detail; None
    means that the model ignores the detail. ``beside`` are tokens of each image.
    """

    side: int
    percent: int = 100
    cap: int
    low: int | None = None
    beside: int = 0

    def tokens(self, width: int, height: int, detail: Detail) -> int:
        """Maximum tokens of an image of this size in pixels."""
        if detail == "low" and self.low is not None:
            return self.worst(detail)  # a small image may be enlarged
        return self._cost(min(_up(width, self.side) * _up(height, self.side), self.cap))

    def worst(self, detail: Detail) -> int:
        """Maximum tokens of an image of any size."""
        return self._cost(self.cap if detail == "high" or self.low is None else self.low)

    def _cost(self, patches: int) -> int:
        return _up(patches * self.percent, 100) + self.beside


class Flat(msgspec.Struct, frozen=True):
    """The same tokens for each image."""

    each: int

    def tokens(self, width: int, height: int, detail: Detail) -> int:  # noqa: ARG002
        """Maximum tokens of an image of this size in pixels."""
        return self.each

    def worst(self, detail: Detail) -> int:  # noqa: ARG002
        """Maximum tokens of an image of any size."""
        return self.each


class Highest(msgspec.Struct, frozen=True):
    """The highest count of several rules, for models about which sources disagree."""

    rules: tuple[Tiles | Patches | Flat, ...]

    def tokens(self, width: int, height: int, detail: Detail) -> int:
        """Maximum tokens of an image of this size in pixels."""
        return max(rule.tokens(width, height, detail) for rule in self.rules)

    def worst(self, detail: Detail) -> int:
        """Maximum tokens of an image of any size."""
        return max(rule.worst(detail) for rule in self.rules)


ImageRule: TypeAlias = Tiles | Patches | Flat | Highest
"""A rule has ``tokens`` and ``worst``. A setting that names a number of tokens is a Flat."""


def _up(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)


_MINI: Final = Patches(side=32, percent=162, cap=1_536)
"""[guide]; 1.20 for gpt-5-mini [measured]. Other models of its row have no multiplier in [guide];
for them, this is the highest one of a model that is not a nano.
"""
_NANO: Final = Patches(side=32, percent=246, cap=1_536)
_TILES_OF_5: Final = Tiles(70, 140)

_ROWS: Final[tuple[tuple[str, ImageRule], ...]] = (
    # [guide]: 2,833 and 5,667 for 4o-mini, 85 and 170 for 4o, 4.5 and their forerunners.
    (r"gpt-4o-mini(?:-search-preview)?", Tiles(2_833, 5_667)),
    (r"gpt-4o(?:-search-preview)?|chatgpt-4o|gpt-4\.5", Tiles(85, 170)),
    (r"gpt-4-turbo|gpt-4(?:-1106)?-vision", Tiles(85, 170)),
    # [guide]: tiles for gpt-4.1, and 773 tokens [measured]. An older guide has a token a patch.
    (r"gpt-4\.1", Highest((Tiles(85, 170), Patches(side=32, cap=1_536)))),
    (r"gpt-4\.1-mini", _MINI),
    (r"gpt-4\.1-nano", _NANO),
    # [guide]: tiles for the o-series except o4-mini. o1-mini and o3-mini take no images.
    (r"o1(?:-pro)?|o3(?:-pro)?", Tiles(75, 150)),
    (r"o4-mini", Patches(side=32, percent=172, cap=1_536)),
    # [guide]: tiles for gpt-5 and gpt-5-chat-latest. gpt-5.1 cuts tiles as well [measured].
    (r"gpt-5(?:\.1)?(?:-chat(?:-latest)?)?", _TILES_OF_5),
    # [guide] has 1,536 patches for the small codex models, and no row for the other variants.
    (r"gpt-5(?:\.1)?-(?:pro|codex(?:-max)?)", Highest((_TILES_OF_5, _MINI))),
    (r"gpt-5(?:\.1)?(?:-mini|-codex-mini)", _MINI),
    (r"gpt-5(?:\.1)?-nano", _NANO),
    # [guide]: 1,536 patches for gpt-5.2 and gpt-5.3.
    (r"gpt-5\.[23](?:-chat(?:-latest)?|-pro|-codex(?:-max)?)?", _MINI),
    (r"gpt-5\.[23](?:-mini|-codex-mini)", _MINI),
    # [guide]: 2,500 patches with high detail and 512 x 512 px with low, from gpt-5.4 on; 2,942
    # tokens for 12 megapixels [measured]. Mini and nano have no multiplier there: the former ones.
    (r"gpt-5\.[4-9]-mini", Patches(side=32, percent=162, cap=2_500, low=256)),
    (r"gpt-5\.[4-9]-nano", Patches(side=32, percent=246, cap=2_500, low=256)),
    (
        r"gpt-(?:5\.[4-9]|6(?:\.[0-9])?)(?:-(?:chat|chat-latest|pro|codex|astra|sol|terra|luna))?",
        Patches(side=32, percent=120, cap=2_500, low=256),
    ),
    # [claude]: 1,568 patches of 28 px up to Claude 4.6, 4,784 from 4.7 on. At 12 megapixels about
    # 1,600 and 3,930 [measured], which is more than the first cap: hence the tokens beside.
    (
        r"claude-(?:3(?:[.-][57])?-[a-z]+|[a-z]+-4(?:[.-][0-6])?)",
        Patches(side=28, cap=1_568, beside=132),
    ),
    (
        r"claude-[a-z]+-(?:4[.-][7-9]|5(?:[.-][0-9])?)",
        Patches(side=28, cap=4_784, beside=116),
    ),
    # [gemini]: 1,120 tokens; 1,065 to 1,101 at any size [measured].
    (r"gemini-3(?:\.[0-9])?-(?:pro|flash|flash-lite)", Flat(1_200)),
)
"""Patterns of the families' names, and the rules. Older Geminis have no row, because their tiles
depend on the aspect ratio, without a documented maximum.
"""

_BEFORE: Final = r"(?:.*[/~])?(?:ft:)?(?:(?:[a-z]+\.)?(?:anthropic|openai)\.)?"
"""Prefixes of a family's name: a path of vendors; a region and a vendor at Bedrock; a fine-tune."""

_AFTER: Final = (
    r"(?:-preview)?(?:-latest)?(?:-v\d)?"
    r"(?:[-@]\d{4}-?\d{2}-?\d{2}|-\d{4}|-\d{2}-\d{4}|-00\d)?(?:-v\d)?(?::.*)?"
)
"""Suffixes of a family's name: a preview, the date or the number of a version, a tag."""

_RULES: Final = tuple((re.compile(f"{_BEFORE}(?:{name}){_AFTER}"), rule) for name, rule in _ROWS)

_LONGEST_NAME: Final = 256
"""Maximum characters of a name that is looked up."""


def rule_of(model: str) -> ImageRule | None:
    """The rule of a model, by its name as providers and gateways write it, or None.

    None means that no bound is known, so the model gets no images unless a setting has the tokens
    of an image. The whole name must be known, because a variant may have other rules than its
    family, and because a deployment may have any name.
    """
    name = model.lower()
    if len(name) > _LONGEST_NAME:
        return None
    return next((rule for pattern, rule in _RULES if pattern.fullmatch(name)), None)
