"""The page on prices shows what its commands write."""

import re
from pathlib import Path

import pytest

from chatnest.cli import main
from chatnest.config.build import build_chat
from chatnest.config.sections import load_config
from chatnest.errors import ConfigurationError

PAGE = (Path(__file__).parents[2] / "docs/how-to/prices.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_suggestion_is_what_the_command_writes(capsys):
    pytest.importorskip("genai_prices", reason="the extra prices is not installed")
    with pytest.raises(SystemExit):
        main(["prices", "suggest", "claude-haiku-4-5", "--provider", "anthropic"])

    assert BLOCKS[-1] in capsys.readouterr().out


def test_the_error_is_the_one_that_a_number_gives(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    monkeypatch.chdir(tmp_path)
    Path("chatnest.toml").write_text(BLOCKS[0].replace('"0.25"', "0.25"))

    with pytest.raises(ConfigurationError) as caught:
        build_chat(load_config(Path("chatnest.toml"), {"CHATNEST_LEDGER__URL": "memory:"}, {}))
    assert f"chatnest: {caught.value}\n" in PAGE


def test_the_table_has_every_key_of_a_price():
    from chatnest.prices.tables import _KEYS

    keys = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(keys) == set(_KEYS) - {"price"}
