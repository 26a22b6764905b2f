"""The conversation of the example pages: what a person does there, and sees."""

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page
else:
    pytest.importorskip("playwright")
from playwright.sync_api import expect

__all__ = ["ask", "shows"]


def ask(page: "Page", text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def shows(page: "Page", text: str) -> None:
    """Wait until the page shows what the docs show, in that order."""
    lines = [line for line in text.splitlines() if line.strip() and line != "..."]
    pattern = ".*".join(re.escape(line).replace(r"\ ", r"\s+") for line in lines)
    expect(page.locator("body")).to_have_text(re.compile(pattern, re.DOTALL))
