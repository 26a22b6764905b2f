"""The pages of the Python API: one for each public module, with every name of its ``__all__``."""

import enum
import inspect
from importlib import import_module
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any

from docsite.navigation import REPOSITORY

MODULES = (
    "chatnest",
    "chatnest.client",
    "chatnest.events",
    "chatnest.errors",
    "chatnest.identity",
    "chatnest.ledger",
    "chatnest.policies",
    "chatnest.providers",
    "chatnest.wire",
    "chatnest.tokens",
    "chatnest.django",
    "chatnest.testing",
)
"""Public modules. A name stands on the page of the first of them that has it."""


def names_of(module: str) -> list[str]:
    """The names that a page documents, in the order of ``__all__``."""
    earlier = MODULES[: MODULES.index(module)]
    known = {id(getattr(import_module(each), name)) for each in earlier for name in _all(each)}
    here = import_module(module)
    return [name for name in _all(module) if id(getattr(here, name)) not in known]


def _all(module: str) -> list[str]:
    return list(import_module(module).__all__)


def page_of(module: str) -> str:
    """The page of a module, in reStructuredText."""
    title = f"``{module}``"
    about = "\n\n".join(map(_literal, (inspect.getdoc(import_module(module)) or "").split("\n\n")))
    head = f"{title}\n{'=' * len(title)}\n\n{about}\n\n"
    entries = [_entry(module, name) for name in names_of(module)]
    return head + f".. currentmodule:: {module}\n\n" + "\n".join(entries)


def _entry(module: str, name: str) -> str:
    value = getattr(import_module(module), name)
    line = f"{name}\n{'-' * len(name)}\n\n"
    if inspect.isclass(value) and not isinstance(value, GenericAlias | UnionType):
        options = "   :members:\n   :undoc-members:\n"
        if issubclass(value, BaseException | enum.Enum):
            options += "   :show-inheritance:\n"
        return f"{line}.. autoclass:: {module}.{name}\n{options}"
    if inspect.isroutine(value):
        return f"{line}.. autofunction:: {module}.{name}\n"
    return f"{line}.. autodata:: {module}.{name}\n"


def _literal(paragraph: str) -> str:
    """An indented paragraph, such as a drawn tree, is shown as it is."""
    return f"::\n\n{paragraph}" if paragraph.startswith("    ") else paragraph


def source_address(module: str, name: str) -> str | None:
    """The address of the source of an object, with its lines, or None if it has none."""
    value: Any = import_module(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    if isinstance(value, property):
        value = value.fget
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(value))
        path = Path(inspect.getsourcefile(inspect.unwrap(value)) or "")
    except (TypeError, OSError):
        return None  # a constant or a field
    inside = inside_package(path, Path(import_module("chatnest").__file__ or "").parent)
    if inside is None:
        return None  # of another package
    return f"{REPOSITORY}/blob/main/src/{inside}#L{first}-L{first + len(lines) - 1}"


def inside_package(path: Path, package: Path) -> str | None:
    """A file of the package, by its path below src/. A clone is in a folder of that name, too."""
    if not path.is_relative_to(package):
        return None
    return (package.name / path.relative_to(package)).as_posix()
