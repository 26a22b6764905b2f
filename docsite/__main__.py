"""Build the site: ``python -m docsite [FOLDER]``, by default into build/docs/site.

Strict: a warning of Sphinx, a broken link or a page without a place in docs/order.toml fails. The
site is built twice, in processes with other hash seeds, and the bytes are compared.
"""

import os
import subprocess
import sys
from pathlib import Path

from docsite.check import check_site, differences
from docsite.navigation import ROOT
from docsite.sources import BrokenLinks, write_sources

EPOCH = "1767225600"
"""SOURCE_DATE_EPOCH where the environment has none: 2026-01-01."""


def sphinx(sources: Path, folder: Path, seed: str) -> subprocess.Popen[bytes]:
    """Start a build of all pages, with warnings as errors."""
    options = ["-b", "html", "-W", "--keep-going", "-q", "-E", "-a"]
    doctrees = folder.with_name(f"{folder.name}-doctrees")
    where = ["-c", str(ROOT / "docsite"), "-d", str(doctrees), str(sources), str(folder)]
    environ = {"SOURCE_DATE_EPOCH": EPOCH, **os.environ, "PYTHONHASHSEED": seed}
    return subprocess.Popen([sys.executable, "-m", "sphinx", *options, *where], env=environ)


def build(folder: Path) -> list[str]:
    """Build the site twice; the faults that were found, beside those that Sphinx prints."""
    work = ROOT / "build/docs"
    sources, again = work / "source", work / "again"
    try:
        write_sources(sources)
    except BrokenLinks as error:
        return str(error).splitlines()
    builds = [sphinx(sources, folder, "1"), sphinx(sources, again, "2")]
    codes = [each.wait() for each in builds]  # of both, before any is judged
    if any(codes):
        return ["Sphinx found faults."]
    return [*differences(folder, again), *check_site(folder)]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build/docs/site"
    found = build(target.absolute())
    for each in found:
        print(each, file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"built: {target / 'index.html'}")
