"""An answer's Markdown is drawn while it arrives. How it was cut must not be seen."""

import os
import random

import pytest

from tests.browser.stub import Stub
from tests.support.soak import amount

try:
    from playwright.sync_api import Page
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("playwright is missing", allow_module_level=True)

pytestmark = pytest.mark.browser

TEXTS = {
    "a footnote of one word at first": "A claim.[^1] And [^2].\n\n[^1]: Some words.\n[^2]: x",
    "a footnote that is an address": "A claim.[^1]\n\nMore.\n\n[^1]: https://example.com\n",
    "a definition at the end": "See [a] and [b][a], [c].\n\n- [a]\n\n[a]: https://a.example 'A'\n",
    "a definition that is taken back": "[a] one\n\ntwo\n\n[a]: https://a.example but it is not\n",
    "a definition with a title below": "[a]\n\n[a]: https://a.example\n'a title'\n\nx",
    "two definitions, the first counts": "[a]\n\n[a]: https://1.example\n[a]: https://2.example\n",
    "setext": "One\n===\n\nTwo\n---\n\nthree\nlines\n---\n\n- - -\n",
    "headings": "# a\n## b [x]\n### c\n\n[x]: https://x.example\n",
    "a loose list": "- a\n- b\n\n- c\n\n  d\n- e\n\n\nend\n",
    "a list in a list": "1. a\n   - b\n     - c\n2. d\n\n   e\n3) f\n",
    "tasks": "- [ ] a\n- [x] b\n  - [ ] c\n\n* d\n",
    "a table": "| a | b |\n|:--|--:|\n| `x|y` | **z** |\n| 1 |\n\nAfter | no | table\n",
    "a table after a line": "text\n| a | b |\n|---|---|\n| [l] | 2 |\n\n[l]: https://l.example\n",
    "quotes": "> a\nlazy\n> > b\n>\n> - c\n\n> d\n",
    "fences": "```python\nprint(1)\n\n```\n\n~~~\n```\n~~~\n\n````md\n```\n\n````\nx\n```",
    "a fence that ends in empty lines": "```\na\n\n\n```\n",
    "indented code": "x\n\n    code\n\n    more\n\n\ny\n\n\tcode",
    "code in a list": "- a\n\n  ```js\n  f()\n\n  ```\n- b\n\n      indented\n",
    "html": "<div>\n\n*a*\n\n</div>\n<br>x<br/>y <b>z</b>\n\n<!-- c\n\nd -->\n<p>\n1\n\n2</p>\n",
    "emphasis": "*a **b* c** ***d*** _e_ ~~f~~ \\*g\\* **h\n\ni** * j*\n",
    "code spans": "`` a`b `` ` c\nd ` `e\n\nf`\n",
    "links": '<https://a.example> [b](https://b.example "t") ![c](d) https://e.example. www.f.gh\n',
    "links that are half": "[a](https://a.exa mple) [b](<c d>) [e]( [f][ ] [g]() [h](i\n\nj)\n",
    "entities and breaks": "a &amp; b &copy;  \nc\\\nd &#0; &nosuch;\r\ne\rf\n",
    "characters": "Grüße 👩‍👩‍👧 你好 e\u0301 \u202eabc\u202c\u00a0x\u2028y\ufeff\n\n\t- a\n",
    "empty lines": "\n\n  \n\na\n\n\n\n \nb\n\n",
}

# Draws each text in many ways, and gives those that look different from the text drawn at once.
DIFFERENT = """async ([texts, seeds, thorough]) => {
  const { MarkdownView } = await import("/assets/markdown.js");
  const view = () => new MarkdownView(document.createElement("div"));
  const fresh = new Map();
  const drawn = (text) => {
    if (!fresh.has(text)) {
      const whole = view();
      whole.show(text);
      fresh.set(text, whole.element.innerHTML);
    }
    return fresh.get(text);
  };
  const wrong = [];
  const draw = (text, cuts) => {
    const pieces = view();
    for (const cut of [...cuts, text.length]) {
      const part = text.slice(0, cut);
      pieces.show(part);
      if (pieces.element.innerHTML === drawn(part)) continue;
      wrong.push([part, pieces.element.innerHTML, drawn(part)]);
      return;
    }
  };
  for (const text of texts) {
    const every = Array.from({ length: text.length }, (_, index) => index);
    draw(text, every);
    for (const cut of thorough ? every : []) draw(text, [cut]);
    for (const cuts of seeds) draw(text, cuts.filter((cut) => cut < text.length));
  }
  return wrong;
}"""


@pytest.fixture
def blank(page: Page, site: Stub) -> Page:
    page.goto(f"{site.url}/settings.json")  # of the same origin, with no script of its own
    return page


def cuts(random_: random.Random) -> list[int]:
    return sorted(random_.sample(range(1, 400), random_.randint(2, 40)))


@pytest.mark.soak
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_looks_the_same_however_it_was_cut(blank: Page, name: str):
    random_ = random.Random(name)
    seeds = [cuts(random_) for _ in range(amount(5, 100))]

    assert blank.evaluate(DIFFERENT, [[TEXTS[name]], seeds, True]) == []


def test_so_do_texts_that_are_made_of_others(blank: Page):
    """What one block does may change how another one is drawn."""
    random_ = random.Random(7)
    names = sorted(TEXTS)
    texts = []
    for _ in range(12):
        chosen = [TEXTS[name] for name in random_.sample(names, 4)]
        texts.append(random_.choice(["", "\n", "\n\n"]).join(chosen))
    lines = [line for name in names for line in TEXTS[name].splitlines()]
    texts += ["\n".join(random_.choices(lines, k=14)) for _ in range(12)]
    seeds = [cuts(random_) for _ in range(5)]

    assert blank.evaluate(DIFFERENT, [texts, seeds, False]) == []


@pytest.mark.parametrize("depth", [99, 150, 5_000])
def test_where_nesting_ends_is_not_left_to_the_stack(blank: Page, depth: int):
    draw = """async (text) => {
      const { MarkdownView } = await import("/assets/markdown.js");
      const view = new MarkdownView(document.createElement("div"));
      const deeper = (levels) => levels ? deeper(levels - 1) : view.show(text);
      const seen = [];
      for (const levels of [0, 100, 2_000]) {
        deeper(levels);
        seen.push(view.element.innerHTML);
      }
      return [new Set(seen).size, view.element.querySelectorAll("blockquote").length];
    }"""
    assert blank.evaluate(draw, ">" * depth + " deep") == [1, depth if depth < 100 else 0]
