"""Sources: where settings come from. Names and types are checked in each by itself, so that what is
wrong is named with the file, the environment or the command line that it stands in.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.profiles import Profile

__all__ = [
    "PORT",
    "Source",
    "Tree",
    "merge",
    "naming",
    "read_environ",
    "read_file",
    "read_port",
    "typed",
]

PREFIX: Final = "CHATNEST_"

PORT: Final = "PORT in the environment"
"""The name of the source that hosting platforms use to assign a port."""

_OF_A_SERVICE: Final = re.compile(r".*_(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)")

Tree = dict[str, Any]

Kinds = Mapping[str, type[msgspec.Struct]]
"""What a section has, by its name. Those of profiles have profiles."""


class Source(msgspec.Struct, frozen=True):
    """Settings by section and key. ``strings``: of no other type, as in the environment."""

    name: str
    tree: Mapping[str, Any]
    strings: bool = False


def read_file(path: Path) -> Source:
    """A TOML file."""
    try:
        return Source(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path} is not TOML: {exc}") from exc


def read_port(environ: Mapping[str, str]) -> Source:
    """``PORT``, by which hosting platforms such as Cloud Run and Heroku assign the port."""
    port = environ.get("PORT", "").strip()
    return Source(PORT, {"server": {"port": port}} if port else {}, strings=True)


def read_environ(environ: Mapping[str, str], sections: Collection[str]) -> Source:
    """``CHATNEST_SECTION__KEY``. Other names are other programs'."""
    tree: Tree = {}
    for name, value in environ.items():
        if name.startswith("OPENAI_"):  # read by the provider
            _check_text(value, f"the environment: {name}")
        section, _, rest = name.removeprefix(PREFIX).lower().partition("_")
        if name.startswith(PREFIX) and "__" not in name and rest and section in sections:
            if _is_of_kubernetes(name, value):
                continue
            raise ConfigurationError(
                f"the environment: {name} is no key: sections and keys are joined by two "
                f"underscores, as in {PREFIX}PROFILES__BALANCED__MAX_MESSAGES"
            )
        if name.startswith(PREFIX) and "__" in name:
            *parents, key = name[len(PREFIX) :].lower().split("__")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
                if not isinstance(place, dict):
                    raise ConfigurationError(f"the environment: {name} has a parent that is a key")
            if isinstance(place.get(key), dict):
                raise ConfigurationError(f"the environment: {name} is a section, not a key")
            place[key] = value
    return Source("the environment", tree, strings=True)


def _is_of_kubernetes(name: str, value: str) -> bool:
    """A service named chatnest-server gives every pod CHATNEST_SERVER_PORT=tcp://10.0.0.1:80."""
    return "://" in value or bool(_OF_A_SERVICE.fullmatch(name))


# ---------------------------------------------------------------- what they say


def typed(source: Source, kinds: Kinds) -> Tree:
    """The settings of a source, each of the type that its key has.

    Raises ConfigurationError for keys that do not exist and values of other types.
    """
    tree: Tree = {}
    for name, section in source.tree.items():
        _known(name, [*kinds, "profiles"], "", source, kinds)
        _check_section(section, name, source)
        if name != "profiles":
            tree[name] = _values(section, kinds[name], name, source, kinds)
            continue
        tree[name] = {}
        for profile, fields in section.items():
            place = f"profiles.{profile}"
            _check_section(fields, place, source)
            tree[name][profile] = _values(fields, Profile, place, source, kinds)
    return tree


def _check_section(section: object, place: str, source: Source) -> None:
    if not isinstance(section, dict):
        raise ConfigurationError(f"{source.name}: {place} must be a section, [{place}]")


def _values(
    section: Tree, kind: type[msgspec.Struct], place: str, source: Source, kinds: Kinds
) -> Tree:
    hints = {key: hint for key, hint in get_type_hints(kind).items() if key != "name"}
    for key in section:
        _known(key, list(hints), f"{place}.", source, kinds)
    return {
        key: _value(value, hints[key], f"{place}.{key}", source) for key, value in section.items()
    }


def _known(key: str, names: list[str], place: str, source: Source, kinds: Kinds) -> None:
    if key in names:
        return
    if key == "api_key":
        raise ConfigurationError(f"{source.name}: the key is read from OPENAI_API_KEY alone")
    nearest = place + difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
    others = [f"{name}.{key}" for name, kind in kinds.items() if key in kind.__struct_fields__]
    hint = f"there is {' and '.join(others)}" if others else f"the nearest is {nearest}"
    raise ConfigurationError(f"{source.name}: there is no key {place}{key}; {hint}")


def _value(value: object, hint: Any, place: str, source: Source) -> object:
    if get_origin(hint) is dict and isinstance(value, dict):
        of_each = get_args(hint)[1]
        return {k: _value(v, of_each, f"{place}[{k!r}]", source) for k, v in value.items()}
    if isinstance(value, str):
        _check_text(value, f"{source.name}: {place}")
    if source.strings:
        value = _split(value, hint)
    try:
        return msgspec.convert(value, hint, strict=not source.strings)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$")
        permitted = " or ".join(_permitted(hint))
        if permitted:
            what = f"must be {permitted}, not {value!r}"
        raise ConfigurationError(f"{source.name}: {place}{where.rstrip('`')}: {what}") from None


def _permitted(hint: Any) -> list[str]:
    """What a key may be that takes certain words, and perhaps a number."""
    if get_origin(hint) is Literal:
        return [repr(word) for word in get_args(hint)]
    words = [word for kind in get_args(hint) for word in _permitted(kind)]
    return ["a whole number", *words] if words and int in get_args(hint) else words


def _check_text(value: str, place: str) -> None:
    """Python keeps bytes of the environment and of the command line that are not UTF-8 as halves of
    surrogate pairs, which fail much later: in JSON, or on their way to the model.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{place}: expected text in UTF-8, got other bytes. Set it from a file or a terminal "
            "that uses UTF-8."
        ) from None


def _split(value: object, hint: object) -> object:
    """A list may be written ``a, b`` in the environment."""
    takes_list = any(get_origin(kind) is list for kind in (hint, *get_args(hint)))
    if takes_list and isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


# ---------------------------------------------------------------- who said it


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """One tree, in which the second has the last word."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]  # both are
    return merged


@contextmanager
def naming(told: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile, an error that begins with a key is preceded by the source of that, or of what is
    below it. ``told`` has the sources by key.
    """
    try:
        yield
    except ConfigurationError as exc:
        key = re.split(r"[^\w.-]", exc.detail, maxsplit=1)[0]
        found = [told[each] for each in told if each == key or each.startswith(f"{key}.")]
        if not key or not found:
            raise
        raise ConfigurationError(f"{found[0]}: {exc.detail}") from exc
