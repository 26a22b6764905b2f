"""Keys: bearer keys of a configuration, each a hash, a list of hashes, or a table. No I/O."""

from datetime import datetime

import msgspec

from chatnest.config.sources import Tree

__all__ = ["KeySection", "keys_of", "with_tables"]


class KeySection(msgspec.Struct, frozen=True, kw_only=True):
    """A table of ``[identity.keys]``. ``hashes`` is checked later, with those of other keys."""

    hashes: str | list[str] = []
    groups: dict[str, str] = {}
    plan: str | None = None
    profiles: list[str] | None = None
    models: list[str] | None = None
    expires: datetime | None = None


def with_tables(base: Tree, over: Tree) -> tuple[Tree, Tree]:
    """Both trees, with a key as a table in both if it is a table in one of them. Otherwise a hash
    in the environment would replace the whole table of the file, and lift its restrictions.
    """
    trees = [base, over]
    keys = [tree.get("identity", {}).get("keys", {}) for tree in trees]
    tables = {name for each in keys for name, value in each.items() if isinstance(value, dict)}
    for number, each in enumerate(keys):
        plain = [name for name in tables.intersection(each) if not isinstance(each[name], dict)]
        if plain:
            changed = each | {name: {"hashes": each[name]} for name in plain}
            identity = trees[number]["identity"] | {"keys": changed}
            trees[number] = trees[number] | {"identity": identity}
    return trees[0], trees[1]


def keys_of(keys: Tree) -> Tree:
    """The keys by name, with a KeySection for each table."""
    return {
        name: KeySection(**each) if isinstance(each, dict) else each for name, each in keys.items()
    }
