"""What ``nox -s docs`` and ``nox -s build`` would refuse is found here without a build."""

import re
from pathlib import Path

import pytest

from docsite import check, diagrams, navigation, packages, reference, sources

ROOT = Path(__file__).parents[2]


def test_each_page_has_one_place_in_the_navigation():
    assert navigation.faults(navigation.navigation()) == []


def test_a_page_without_a_place_and_a_place_without_a_page_are_faults():
    found = navigation.navigation()
    group = navigation.Group("More", ("how-to/nowhere", "how-to/serve"))
    wrong = navigation.faults(found._replace(groups=(*found.groups[1:], group)))
    assert any("tutorial/five-minutes.md: expected a place" in line for line in wrong)
    assert any("got 'how-to/nowhere'" in line for line in wrong)
    assert any("got 2 for 'how-to/serve'" in line for line in wrong)


def test_the_index_has_every_page():
    text = navigation.INDEX.read_text()
    assert text == navigation.index_with(navigation.listing()), "run python -m docsite.navigation"


@pytest.mark.parametrize("name", diagrams.DRAWN)
def test_diagrams_are_as_they_are_drawn(name):
    file = diagrams.FOLDER / f"{name}.svg"
    assert file.read_text() == diagrams.drawing(name), "run python -m docsite.diagrams"


def test_sources_lead_outside_of_the_docs_to_the_repository(tmp_path):
    sources.write_sources(tmp_path / "source")
    pages = {path.name: path.read_text() for path in (tmp_path / "source").rglob("*.md")}
    assert "](../project/changelog.md)" in pages["upgrade.md"]
    assert f"]({navigation.REPOSITORY}/tree/main/benchmarks)" in pages["tests.md"]
    assert ":caption: First steps" in pages["index.md"]
    assert (tmp_path / "source/api/chatnest.rst").exists()


def test_a_link_to_nothing_is_a_fault(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n[one](nothing.md)\n\n```\n[two](nowhere.md)\n```\n")
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    broken: list[str] = []
    sources._linked(page, broken)
    assert broken == ["page.md: nothing.md does not exist."]


def test_every_public_name_has_its_place_in_the_reference():
    wanted = {name for module in reference.MODULES for name in reference._all(module)}
    shown = {
        name
        for module in reference.MODULES
        for name in re.findall(
            rf"auto(?:class|function|data):: {module}\.(\w+)", reference.page_of(module)
        )
    }
    assert shown == wanted


def test_a_source_has_its_lines():
    address = reference.source_address("chatnest", "ChatNestApp")
    assert address is not None
    assert re.fullmatch(
        rf"{navigation.REPOSITORY}/blob/main/src/chatnest/app\.py#L\d+-L\d+", address
    )
    assert reference.source_address("chatnest", "BALANCED") is None


def test_a_clone_in_a_folder_of_the_name_of_the_package_has_sources():
    package = Path("/home/ann/chatnest/src/chatnest")
    assert reference.inside_package(package / "wire/base.py", package) == "chatnest/wire/base.py"
    assert reference.inside_package(Path("/home/ann/chatnest/anyio/abc.py"), package) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.html", '<script src="https://cdn.example.org/x.js"></script>'),
        ("page.html", '<link rel="stylesheet" href="//fonts.example.org/css">'),
        ("page.html", '<img src="http://example.org/x.png">'),
        ("page.css", "@import 'https://example.org/x.css';"),
        ("page.css", "a { background: url(//example.org/x.png) }"),
        ("page.js", "fetch('https://example.org/x')"),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert check.far_loads(tmp_path / name)


def test_a_link_that_somebody_may_follow_loads_nothing(tmp_path):
    (tmp_path / "page.html").write_text('<a href="https://example.org">x</a><img src="x.png">')
    assert check.far_loads(tmp_path / "page.html") == []


def test_other_bytes_of_a_second_build_are_found(tmp_path):
    for folder, text in (("one", "1"), ("two", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.html").write_text("same")
        (tmp_path / folder / "page.html").write_text(text)
    (tmp_path / "one/more.html").write_text("more")
    found = check.differences(tmp_path / "one", tmp_path / "two")
    assert [line.partition(":")[0] for line in found] == ["more.html", "page.html"]


def test_the_checks_of_packages_know_what_is_shipped():
    names = packages.shipped()
    assert {"chatnest/py.typed", "chatnest/app.py"} <= names
    assert not any("__pycache__" in name for name in names)
