"""The changelog has the form of Keep a Changelog, and can be read."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CHANGELOG.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RELEASES = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]? - (\d{4}-\d\d-\d\d)$", TEXT, re.MULTILINE)
GROUPS = {"Added", "Changed (breaking)", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_has_its_release_or_is_unreleased():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert len(headings) == 1 + len(RELEASES)
    assert RELEASES[0][0] == VERSION
    for newer, older in pairwise(RELEASES):
        assert [*map(int, newer[0].split("."))] > [*map(int, older[0].split("."))]
        assert newer[1] >= older[1]


def test_each_group_is_one_of_the_form_s():
    assert {*re.findall(r"^### (.+)$", TEXT, re.MULTILINE)} <= GROUPS
    assert not re.search(r"^####", TEXT, re.MULTILINE)


def test_each_linked_heading_leads_somewhere():
    linked = re.findall(r"^## \[(.+?)\]", TEXT, re.MULTILINE)
    assert linked == re.findall(r"^\[(.+?)\]: https://", TEXT, re.MULTILINE)


def test_no_entry_has_more_than_three_lines():
    for entry in re.findall(r"^- .*(?:\n  .*)*", TEXT, re.MULTILINE):
        assert entry.count("\n") < 3, entry


def test_the_upgrade_page_has_each_breaking_release():
    page = (ROOT / "docs/how-to/upgrade.md").read_text()
    for (newer, _), (older, _) in pairwise(RELEASES):
        section = TEXT[TEXT.index(f"## [{newer}]") :].partition("\n## ")[0]
        assert "(breaking)" not in section or f"\n## From {older}\n" in page
