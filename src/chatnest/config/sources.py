"""Sources of settings: a file, the environment, the command line. Each source is checked on its
own, so that an error names the source of the wrong key or value.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from chatnest.config.moments import moment
from chatnest.errors import ConfigurationError

__all__ = [
    "PORT",
    "Source",
    "Tree",
    "merge",
    "naming_sources",
    "read_environ",
    "read_file",
    "read_port",
    "split_argument",
    "typed",
]

PREFIX: Final = "CHATNEST_"

PORT: Final = "PORT in the environment"
"""Name of the source by which hosting platforms assign a port."""

_KUBERNETES_NAME: Final = re.compile(r".*_(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)")

Tree = dict[str, Any]

Kinds = Mapping[str, type[msgspec.Struct]]
"""Type of each section's settings, by the section's name."""

_TYPE_NAMES: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "object": "a table",
    "str": "a string",
}
"""Names of msgspec's types in error messages."""

_LISTS: Final = (list, tuple, Collection)
"""Types that a list has, as the origin of a hint."""

_ARGUMENT: Final = re.compile(r"(?s)\A(\w*)(.*)\Z")

_TYPE_ERROR: Final = re.compile(r"Expected `(?P<expected>.+)`, got `(?P<got>.+)`")


class Source(msgspec.Struct, frozen=True):
    """Settings by section and key. With ``strings`` all values are strings, as in environments."""

    name: str
    tree: Mapping[str, Any]
    strings: bool = False


def read_file(path: Path) -> Source:
    """Read a TOML file. Raises ConfigurationError if it cannot be read or is not valid TOML."""
    try:
        return Source(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise ConfigurationError(
            f"{path}: expected a readable file, got an error: {exc.strerror}. Check the path and "
            "its permissions."
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{path}: expected text in UTF-8, got other bytes. Save the file in UTF-8."
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(
            f"{path}: expected TOML, got an error: {exc}. Correct that line."
        ) from exc


def read_port(environ: Mapping[str, str]) -> Source:
    """Read ``PORT``. Hosting platforms such as Cloud Run and Heroku assign the port by it."""
    port = environ.get("PORT", "").strip()
    return Source(PORT, {"server": {"port": port}} if port else {}, strings=True)


def read_environ(environ: Mapping[str, str], sections: Collection[str]) -> Source:
    """Read ``CHATNEST_SECTION__KEY``. Other names belong to other programs.

    Raises ConfigurationError for a name that lacks one of its two underscores, for a key that is
    also a section, and for text that is not UTF-8.
    """
    tree: Tree = {}
    for name, value in environ.items():
        if name.startswith(("ANTHROPIC_", "OPENAI_")):  # a provider reads it
            _check_text(value, f"the environment: {name}")
        section, _, rest = name.removeprefix(PREFIX).lower().partition("_")
        if name.startswith(PREFIX) and "__" not in name and rest and section in sections:
            if _is_from_kubernetes(name, value):
                continue
            raise ConfigurationError(
                f"the environment: {name}: expected two underscores between a section and a key, "
                f"got one. Write it as in {PREFIX}PROFILES__BALANCED__MAX_MESSAGES."
            )
        if name.startswith(PREFIX) and "__" in name:
            *parents, key = name[len(PREFIX) :].lower().split("__")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
                if not isinstance(place, dict):
                    raise ConfigurationError(
                        f"the environment: {name}: expected a section above it, got a key with a "
                        "value. Remove one of the two variables."
                    )
            if isinstance(place.get(key), dict):
                raise ConfigurationError(
                    f"the environment: {name}: expected a key, got a section with keys of its "
                    "own. Remove this variable or the ones below it."
                )
            place[key] = value
    return Source("the environment", tree, strings=True)


def _is_from_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes set this variable for a service.

    A service named chatnest-server gives every pod CHATNEST_SERVER_PORT=tcp://10.0.0.1:80.
    """
    return "://" in value or bool(_KUBERNETES_NAME.fullmatch(name))


# ---------------------------------------------------------------- types


def typed(source: Source, kinds: Kinds, named: Kinds, listed: Kinds) -> Tree:
    """Return the settings of a source, each converted to the type of its key. ``named`` are the
    types of sections that have a section for each name, such as that of profiles, and ``listed``
    those of the tables of a list.

    Raises ConfigurationError for an unknown key, and for a value of another type.
    """
    tree: Tree = {}
    for name, section in source.tree.items():
        _known(name, [*kinds, *named, *listed], "", source, kinds)
        if name in listed:
            tree[name] = _listed(section, listed[name], name, source, kinds)
            continue
        _check_section(section, name, source)
        if name not in named:
            tree[name] = _values(section, kinds[name], name, source, kinds)
            continue
        tree[name] = {}
        for each, fields in section.items():
            place = f"{name}.{each}"
            _check_section(fields, place, source)
            tree[name][each] = _values(fields, named[name], place, source, kinds)
    return tree


def _listed(
    tables: object, kind: type[msgspec.Struct], place: str, source: Source, kinds: Kinds
) -> list[Tree]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(
            f"{source.name}: {place}: expected a list of tables, got another value. Write "
            f"[[{place}]] above the keys of each, in a file."
        )
    hints = get_type_hints(kind)
    found = []
    for number, table in enumerate(tables):
        at = f"{place}[{number}]"
        for key in table:
            _known(key, list(hints), f"{at}.", source, kinds)
        found.append(
            {
                key: _value(each, hints[key], f"{at}.{key}", source, kinds)
                for key, each in table.items()
            }
        )
    return found


def _check_section(section: object, place: str, source: Source) -> None:
    if not isinstance(section, dict):
        raise ConfigurationError(
            f"{source.name}: {place}: expected a section, got a value. Write [{place}] above its "
            "keys."
        )


def _values(
    section: Tree, kind: type[msgspec.Struct], place: str, source: Source, kinds: Kinds
) -> Tree:
    hints = {key: hint for key, hint in get_type_hints(kind).items() if key != "name"}
    for key in section:
        _known(key, list(hints), f"{place}.", source, kinds)
    return {
        key: _value(value, hints[key], f"{place}.{key}", source, kinds)
        for key, value in section.items()
    }


def _known(key: str, names: list[str], place: str, source: Source, kinds: Kinds) -> None:
    if key in names:
        return
    if key == "api_key":
        variable = "the variable of api_key_env" if "." in place[:-1] else "OPENAI_API_KEY"
        raise ConfigurationError(
            f"{source.name}: {place}{key}: expected the secret in {variable} alone, got it here. "
            f"Remove it here and set {variable} in the environment."
        )
    nearest = place + difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
    others = [f"{name}.{key}" for name, kind in kinds.items() if key in kind.__struct_fields__]
    raise ConfigurationError(
        f"{source.name}: {place}{key}: expected a known {'key' if place else 'section'}, got an "
        f"unknown one. Did you mean {' or '.join(others or [nearest])}?"
    )


def _value(value: object, hint: Any, place: str, source: Source, kinds: Kinds) -> object:
    if isinstance(value, dict):
        if get_origin(hint) is dict:
            of_each = get_args(hint)[1]
            return {
                k: _value(v, of_each, f"{place}[{k!r}]", source, kinds) for k, v in value.items()
            }
        for kind in get_args(hint):
            if _is_table(kind):
                return _values(value, kind, place, source, kinds)
    if datetime in get_args(hint):
        return moment(value, f"{source.name}: {place}", as_text=source.strings)
    if isinstance(value, str):
        _check_text(value, f"{source.name}: {place}")
    if source.strings:
        value = _split(value, hint)
    try:
        return msgspec.convert(value, hint, strict=not source.strings)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$")
        advice = " Write it without quotes." if _is_quoted(value, hint) else ""
        wrong = _wrong_type(problem, value, hint)
        raise ConfigurationError(
            f"{source.name}: {place}{where.rstrip('`')}: {wrong}{advice}"
        ) from None


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_quoted(value: object, hint: Any) -> bool:
    """Return whether a value is a string that stands for a valid value of another type."""
    try:
        msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:
        return False
    return isinstance(value, str)


def _wrong_type(problem: str, value: object, hint: Any) -> str:
    """Translate an error of msgspec. A key that takes strings may hold a secret, so its value is
    not shown.
    """
    if words := _words(hint):
        return f"expected {' or '.join(words)}, got {value!r}."
    types = _TYPE_ERROR.fullmatch(problem)
    if types is None:
        return f"expected another value, got an error: {problem}."
    got = str(value).lower() if isinstance(value, bool) else repr(value)
    if not _is_scalar(hint):
        got = _type_names(types["got"])
    return f"expected {_type_names(types['expected'])}, got {got}."


def _type_names(types: str) -> str:
    *names, last = [_TYPE_NAMES[name] for name in types.split(" | ") if name in _TYPE_NAMES] or [
        types
    ]
    return f"{', '.join(names)} or {last}" if names else last


def _is_scalar(hint: Any) -> bool:
    """Return whether a key takes only numbers, true and false, and None."""
    kinds = get_args(hint) or (hint,)
    return all(kind in {int, float, bool, type(None)} for kind in kinds)


def _words(hint: Any) -> list[str]:
    """Return the words that a key takes, and "an integer" if it takes integers besides."""
    if get_origin(hint) is Literal:
        return [repr(word) for word in get_args(hint)]
    words = [word for kind in get_args(hint) for word in _words(kind)]
    return ["an integer", *words] if words and int in get_args(hint) else words


def _check_text(value: str, place: str) -> None:
    """Raise if the text was not UTF-8.

    Python keeps such bytes of the environment and the command line as lone surrogates, which fail
    only later: in JSON, or on their way to the model.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{place}: expected text in UTF-8, got other bytes. Set it from a file or a terminal "
            "that uses UTF-8."
        ) from None


def _split(value: object, hint: object) -> object:
    """Split ``a, b`` if the key takes a list: the environment has no other form for one."""
    takes_list = any(get_origin(kind) in _LISTS for kind in (hint, *get_args(hint)))
    if takes_list and isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


# ---------------------------------------------------------------- merging


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Merge two trees. Values of ``over`` override values of ``base``."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]  # both are
    return merged


def split_argument(detail: str) -> tuple[str, str]:
    """The Python argument with which an error begins, and the rest of the error."""
    argument, rest = _ARGUMENT.findall(detail)[0]
    return argument, rest


@contextmanager
def naming_sources(sources: Mapping[str, str]) -> Iterator[None]:
    """Within this block, prefix an error about a key with the source of that key.

    For a section, the prefix is the source of a key in it. ``sources`` has the sources by key.
    """
    try:
        yield
    except ConfigurationError as exc:
        key = re.split(r"[^\w./@:-]|:(?!\w)", exc.detail, maxsplit=1)[0]
        found = [sources[each] for each in sources if each == key or each.startswith(f"{key}.")]
        if not key or not found:
            raise
        raise ConfigurationError(f"{found[0]}: {exc.detail}") from exc
