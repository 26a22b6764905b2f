"""Checks of the wheel and the sdist, which ``nox -s build`` builds twice."""

import hashlib
import re
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE = ROOT / "src/chatnest"
SDIST_HAS = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "noxfile.py",
    "docs/index.md",
)


def shipped() -> set[str]:
    """The files of the package, as the wheel must have them."""
    return {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def wheel_faults(wheel: Path) -> list[str]:
    """What is missing in a wheel, or should not be there."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        fields = Parser().parsestr(archive.read(metadata).decode())
    about = metadata.partition("/")[0]
    code = {name for name in names if not name.startswith(f"{about}/")}
    found = [f"wheel: expected {name}, got no such file." for name in sorted(shipped() - code)]
    found += [
        f"wheel: expected files of src alone, got {name}." for name in sorted(code - shipped())
    ]
    licences = {
        path.relative_to(ROOT).as_posix()
        for pattern in PROJECT["license-files"]
        for path in ROOT.glob(pattern)
    }
    found += [
        f"wheel: expected the licence {name}, got none."
        for name in sorted(licences)
        if f"{about}/licenses/{name}" not in names
    ]
    wanted = {"License-Expression": PROJECT["license"], "Version": PROJECT["version"]}
    found += [
        f"wheel: {field}: expected {value!r}, got {fields[field]!r}."
        for field, value in wanted.items()
        if fields[field] != value
    ]
    urls = {url.partition(",")[0] for url in fields.get_all("Project-URL") or []}
    if urls != set(PROJECT["urls"]):
        found.append(f"wheel: Project-URL: expected those of pyproject.toml, got {sorted(urls)}.")
    return found


def sdist_faults(sdist: Path) -> list[str]:
    """What is missing in a source distribution, or should not be there."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    sources = {f"src/{name}" for name in shipped()}
    found = [
        f"sdist: expected {name}, got no such file."
        for name in sorted((sources | set(SDIST_HAS)) - names)
    ]
    stray = re.compile(r"(^|/)(__pycache__|build|dist|\.venv|\.nox)/|\.db(-\w+)?$|\.pyc$")
    return found + [f"sdist: expected sources, got {name}." for name in names if stray.search(name)]


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in {".whl", ".gz"}
    }


def faults(first: Path, second: Path) -> list[str]:
    """The faults of two builds of one source."""
    (wheel,) = first.glob("*.whl")
    (sdist,) = first.glob("*.tar.gz")
    found = wheel_faults(wheel) + sdist_faults(sdist)
    if digests(first) != digests(second):
        found.append(
            f"two builds: expected the same bytes, got {digests(first)}, {digests(second)}."
        )
    return found


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]), Path(sys.argv[2]))
    for each in found:
        print(each, file=sys.stderr)
    for name, digest in digests(Path(sys.argv[1])).items():
        print(f"{digest}  {name}")
    sys.exit(1 if found else 0)
