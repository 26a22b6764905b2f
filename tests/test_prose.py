"""The English of the source and of the docs: a list of patterns finds habits that stop a reader.

The patterns do not replace a reader. They are applied to every docstring, comment and string of the
package, in Python, Lua, JavaScript and HTML, and to every page.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import chatnest

ROOT = Path(chatnest.__file__).parent

START = r"(?:^|(?<=[.:;!?] )|(?<=\())"
"""Where a sentence or a clause begins."""

HABITS = {
    "a sentence whose subject is a pronoun": (
        START + r"(?:[Ww]ho|[Ww]hat|[Ww]hom|[Ww]hose)\b(?![^.!?]*\?)",
        START + r"(?:[Tt]hose|[Hh]e|[Ss]he|One|[Tt]he one) (?:who|that|which|of|whose)\b",
        START + r"[Oo]f (?:each|a|an|the|all|one|every|these|those)\b[^,.;:]*[,:]",
        START + r"[Oo]f (?:each|every)\b",
        r"(?i)\b(?:whoever|whatever|whichever|whomever)\b",
        r"(?i)\b(?:that|than|is|are) (?:who is|who has|what has)\b",
    ),
    "'is no X' for 'is not a X'": (
        r"(?i)(?<!there )\b(?:is|are|was|were|be|being) no (?!longer\b|more\b|less\b|matter\b)\w+",
        r"(?i)\b(?:which|that|who|what) (?:has|have|had|needs|takes|names|knows) none\b",
    ),
    "code that speaks and listens": (
        r"(?i)\btold\b(?! apart)",
        r"(?i)\btells?\b(?! (?:\w+ ){1,2}(?:apart|from)\b)",
        r"(?i)\bsa(?:ys?|id|ying) (?:so|no|nothing|otherwise|better|whether)\b",
        START + r"Says\b",
        r"(?i)\b(?:hears?|heard|hearing)\b",
    ),
    "an archaic or vague adverb": (
        r"(?i)\bmeanwhile\b",
        r"(?i)\bfor ever\b|\bas ever\b|\bever so\b",
        r"(?i)\bat all\b(?! (?!times)\w+)",
        r"(?i)\bso (?:many|much|few)\b(?! (?:as|that)\b)",
        r"(?i)\b(?:thereof|therein|thereby|thereupon|therewith|wherein|whereby|whereupon)\b",
        r"(?i)\b(?:hereby|hither|thither|thence|whence|anew|lest|ere|albeit|forthwith|unto)\b",
    ),
    "a person where there is a client, a worker or a program": (
        r"(?i)\b(?:no|some|any|every)body(?:'s)?\b",
        r"(?i)\bof (?:theirs|ours|one's own|others')(?![\w'-])",
        r"(?i)\bone's\b",
    ),
    "an idiom of another language": (
        r"(?i)\bto be had\b",
        r"(?i)\bpick(?:s|ed|ing)?(?: \w+){0,2} up again\b",
        r"(?i)\b(?:is|are|was|were|be|been|stays) away\b",
        r"(?i)\b(?:lies|lie|lay) at\b",
        r"(?i)\bmend(?:s|ed|ing)?\b",
        r"(?i)\b(?:came|comes?|become|became|becomes) (?:of\b|to nothing\b)",
        r"(?i)\b(?:has|have|had) it that\b|\btakes? no notice\b",
        r"(?i)\b(?:make|makes|made) (?:nothing|something|little) of\b",
        r"(?i)\bbelongs? into\b",
        r"(?i)\ball the same\b(?! \w)",
        r"(?i)\bin the making\b|\b(?:last|first)(?: \w+)? but one\b",
        r"(?i)\bstrangers?\b",
    ),
    "a call of its target, for a call to it": (
        r"(?i)\bcalls? of (?:a|the|each|every|any|another) (?:model|ledger|provider|upstream)s?\b",
    ),
}


class Allowed(NamedTuple):
    """A place where a pattern finds good English."""

    file: str
    words: str
    reason: str


ALLOWED: list[Allowed] = []
"""At most five."""


class Finding(NamedTuple):
    """A habit in a text of the source."""

    file: str
    line: int
    words: str
    habit: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.words!r} ({self.habit})"


# ---------------------------------------------------------------- the texts of a file


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Each string and each block of comments, with its line. A value in an f-string is ``{}``."""
    tree = ast.parse(source)
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in parts:
            yield (
                node.lineno,
                "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}"
                    for part in node.values
                ),
            )
        elif isinstance(node, ast.Constant) and id(node) not in parts:
            yield node.lineno, node.value if isinstance(node.value, str) else ""
    yield from comments(
        (token.start[0], token.string, token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    )


MARKS = re.compile(r"# ?(?:noqa: [A-Z0-9, ]+|type: ignore\S*|pragma: .*)?")


def comments(found: Iterable[tuple[int, str, bool]]) -> Iterator[tuple[int, str]]:
    """The comments of a file. Comments that fill consecutive lines are one text."""
    blocks: list[list[tuple[int, str]]] = []
    for line, comment, whole in found:
        words = re.sub(MARKS, "", comment).strip()
        if whole and blocks and blocks[-1][-1][0] == line - 1:
            blocks[-1].append((line, words))
        else:
            blocks.append([(line, words)])
    yield from ((block[0][0], " ".join(words for _, words in block)) for block in blocks)


QUOTED = r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'"
OTHER = {
    ".js": re.compile(r"//(.*)|/\*([\s\S]*?)\*/|`([^`]*)`|" + QUOTED),
    ".lua": re.compile(r"--(.*)|" + QUOTED),
    ".html": re.compile(
        r"(?!)()|<!--([\s\S]*?)-->|>([^<>]+)<|(?:label|placeholder|title|content)=" + QUOTED
    ),
}
"""Comments and strings of the other languages. The first group is a comment of one line."""


def other_texts(source: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Each string and comment that a pattern finds, with its line."""
    found = [
        (source.count("\n", 0, match.start()) + 1, match.lastindex, match[match.lastindex])
        for match in pattern.finditer(source)
        if match.lastindex
    ]
    yield from ((line, text) for line, group, text in found if group != 1)
    yield from comments((line, text, True) for line, group, text in found if group == 1)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every docstring, comment and string of a file, in one line each, with its line number."""
    source = path.read_text(encoding="utf-8")
    is_python = path.suffix == ".py"
    found = python_texts(source) if is_python else other_texts(source, OTHER[path.suffix])
    for line, text in found:
        if " " in text.strip():
            yield line, re.sub(r"[\s*]+", " ", text).strip()


# ---------------------------------------------------------------- the texts of a page

PROJECT = Path(__file__).parents[1]
PAGES = [
    *(PROJECT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT")),
    PROJECT / "CHANGELOG.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
]


def page_texts(source: str) -> Iterator[tuple[int, str]]:
    """The paragraphs, rows of tables, items and headings of a page, with their lines.

    Code is left out, and the targets of links. A cell without a full stop is no sentence: *what it
    is* may head a column.
    """
    text = re.sub(r"^```.*?^```$", lambda code: "\n" * code[0].count("\n"), source, flags=BLOCKS)
    text = re.sub(r"`[^`]*`", "x", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    line = 1
    for part in re.split(r"(\n\s*\n|\n(?=[|#]|- |\d+\. ))", text):
        is_row = part.startswith("|")
        for cell in part.split("|") if is_row else [part]:
            words = re.sub(r"[\s*]+", " ", cell).strip()
            if " " in words and (not is_row or ". " in f"{words} "):
                yield line, words
        line += part.count("\n")


BLOCKS = re.MULTILINE | re.DOTALL

PEOPLE = "a person where there is a client, a worker or a program"
"""Not a fault in a page: its readers, their users and their teams are people."""


def page_findings() -> list[str]:
    """Every habit in the pages."""
    return [
        str(Finding(path.relative_to(PROJECT).as_posix(), line, words, habit))
        for path in PAGES
        for line, text in page_texts(path.read_text(encoding="utf-8"))
        for words, habit in habits_in(text)
        if habit != PEOPLE
    ]


# ---------------------------------------------------------------- what is found


def files() -> list[Path]:
    """The files of the package whose English is ours."""
    return sorted(
        path
        for kind in ("py", "js", "lua", "html")
        for path in ROOT.rglob(f"*.{kind}")
        if "vendor" not in path.parts
    )


def habits_in(text: str) -> Iterator[tuple[str, str]]:
    """The words around each place where a pattern matches, and the habit."""
    for habit, patterns in HABITS.items():
        for pattern in patterns:
            for match in re.finditer(pattern, text):
                yield text[max(0, match.start() - 30) : match.end() + 40], habit


def findings() -> list[Finding]:
    """Every habit in the package but the allowed ones."""
    return [
        Finding(name, line, words, habit)
        for path in files()
        for name in [path.relative_to(ROOT).as_posix()]
        for line, text in texts(path)
        for words, habit in habits_in(text)
        if not any(each.file == name and each.words in words for each in ALLOWED)
    ]


FOUND = findings()


PLAIN = (
    "Unauthenticated requests get a 401.",
    "A larger number is not plausible, so the receipt is ignored.",
    "The delay in seconds, or None if it is missing or implausible.",
    "For each rate we store one timestamp, at which the bucket is empty again (GCRA).",
    "There is no ledger. What is the model called? It is no longer open.",
    "A request without a profile uses ``default_profile``.",
    "The call to the model is closed at once, and the cost of each call of a tool is counted.",
)
RIDDLES = (
    "Who is not logged in gets 401.",
    "What is more is no receipt.",
    "The number, or None for what is no time to wait for.",
    "Of a key whose run was refused elsewhere in the same moment, one after the other.",
    "Refuse settings that are no Struct of theirs, such as a dict.",
    "Of each rate one time is kept: when all effort is forgiven.",
    "Meanwhile, an error begins with its key, and with whoever said that.",
    "What is admitted here will be settled there, whatever the ledger has made of the wish.",
    "charged in full, until its worker says better",
    "The body is not to be had.",
    "A page of anybody's can have its own name lead to 127.0.0.1.",
    "The client is told of it, and the ledger is away for ever.",
    "The call of the model is closed at once.",
    "The chat belongs into the file of your project.",
    "A settlement whose hold was lost is charged all the same.",
    "One message in the making.",
    "The last key but one has the pending crossings.",
    "A budget for all strangers together.",
)


@pytest.mark.parametrize("text", RIDDLES)
def test_a_riddle_is_found(text: str) -> None:
    assert list(habits_in(text))


@pytest.mark.parametrize("text", PLAIN)
def test_plain_english_is_not_a_finding(text: str) -> None:
    assert not list(habits_in(text))


def test_docstrings_comments_and_strings_are_read() -> None:
    source = '"""One."""\n# two\n# three\nx = f"four {x} " "five"  # noqa: E501  # six\n'
    assert list(python_texts(source)) == [
        (1, "One."),
        (4, "four {} five"),
        (2, "two three"),
        (4, "six"),
    ]
    script = "// one\n// two\nx = 'three' /* four\n * five */\n"
    assert list(other_texts(script, OTHER[".js"])) == [
        (3, "three"),
        (3, " four\n * five "),
        (1, "one two"),
    ]


def test_prose_is_plain() -> None:
    assert not FOUND, "\n".join(map(str, FOUND))


def test_few_places_are_allowed_and_each_is_needed() -> None:
    assert len(ALLOWED) <= 5
    for each in ALLOWED:
        assert each.reason
        assert any(each.words in text for _, text in texts(ROOT / each.file)), each


def test_paragraphs_rows_and_items_of_a_page_are_read() -> None:
    source = (
        "# A title\n\nOne [two](three.md)\nfour.\n\n```sh\nmeanwhile\n```\n\n| a b | `x` is. |\n"
    )
    assert list(page_texts(source)) == [(1, "# A title"), (3, "One [two] four."), (10, "x is.")]


def test_pages_are_plain() -> None:
    found = page_findings()
    assert not found, "\n".join(found)
