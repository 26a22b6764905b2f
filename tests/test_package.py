"""The package says what it needs, what it contains, and where it is to be had."""

import hashlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import chatnest
from tests.test_house import foreign_imports, parsed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VENDOR = Path(chatnest.__file__).parent / "server/pages/chat/vendor"

# Declared, and imported by no module of ours.
UNSEEN = {
    "uvloop": "uvicorn takes it where it is",
    "tzdata": "zoneinfo reads it",
    "trio": "anyio runs on it",
}


NAMED_OTHERWISE = {"opentelemetry": "opentelemetry_api"}
"""Packages that are imported by another name."""


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9_.-]+", each) for each in requirements)
    return {match[0].replace("-", "_").lower() for match in found if match}


def declared() -> set[str]:
    extras = PROJECT["optional-dependencies"].values()
    return names([*PROJECT["dependencies"], *(each for extra in extras for each in extra)])


def test_what_is_imported_is_declared_and_the_other_way_round():
    """What another dependency brings by chance may be gone with its next release."""
    imported = {name for tree in parsed().values() for name in foreign_imports(tree)}
    tops = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    ours = {NAMED_OTHERWISE.get(name, name) for name in tops}
    assert ours | set(UNSEEN) == declared()
    assert not ours & set(UNSEEN)


def test_every_dependency_has_its_reason():
    page = (ROOT / "docs/discussion/dependencies.md").read_text()
    cells = re.findall(r"^\| (.+?) \|", page, re.MULTILINE)
    told = [name for cell in cells for name in re.sub(r" \(extra.*?\)", "", cell).split(", ")]
    assert names(told) - {"package"} == declared()


def test_the_wheels_licence_is_that_of_all_in_it():
    assert PROJECT["license"].split(" AND ") == ["MIT", "BSD-3-Clause", "Apache-2.0"]
    page = (ROOT / "docs/discussion/dependencies.md").read_text()
    assert f"`{PROJECT['license']}`" in page
    for pattern in PROJECT["license-files"]:
        assert list(ROOT.glob(pattern)), pattern
    licences = {path.name.removeprefix("LICENSE-") for path in VENDOR.glob("LICENSE-*")}
    assert licences == set(re.findall(r"`LICENSE-(\w+)`", (VENDOR / "README.md").read_text()))


def test_what_is_vendored_is_what_was_published():
    """Whether npm's file has this hash cannot be seen offline: its version and hash are named."""
    page = (VENDOR / "README.md").read_text()
    hashes = re.findall(r"^([0-9a-f]{64})  (\S+)$", page, re.MULTILINE)
    files = {path.name for path in VENDOR.iterdir() if path.suffix in {".js", ".mjs"}}
    assert {name for _, name in hashes} == files
    assert files == set(re.findall(r"^\| `(\S+)` ", page, re.MULTILINE))
    for digest, name in hashes:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    (version,) = re.findall(r"`dompurify` \| ([\d.]+) ", page)
    assert f"DOMPurify {version} " in (VENDOR / "purify.es.mjs").read_text()[:200]
    (version,) = re.findall(r"`marked` \| ([\d.]+) ", page)
    assert f"marked v{version} " in (VENDOR / "marked.esm.js").read_text()[:200]


TEXTS = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_is_sent_to_an_index_that_does_not_have_it(path):
    """Anybody could take the name there."""
    commands = re.findall(
        r"(?:pip|uv|pipx|poetry)\w* (?:install|add|run)[^`\n&;]*", path.read_text()
    )
    for command in commands:
        assert not re.search(r"[\s'\"]chatnest\b", command), command
