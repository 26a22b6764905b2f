"""``chatnest prices``: what it writes is a configuration, and what it compares may differ."""

import os
import re
from datetime import date
from decimal import Decimal
from importlib.metadata import version

import pytest

from chatnest.cli import main
from chatnest.config.prices import prices_of
from chatnest.config.sections import Config, load_config

pytest.importorskip("genai_prices", reason="the extra prices is not installed")

from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider

from chatnest.cli.price_library import NoPrice, PriceLibrary, found_of

MODELS = """\
[providers.claude]
api = "anthropic-messages"

[providers.house]
base_url = "http://127.0.0.1:9/v1"

[models."small one"]
model = "gpt-5-mini"

[models.large]
model = "gpt-5.6"

[models.sonnet]
provider = "claude"
model = "claude-sonnet-4-5-20250929"
"""
LIBRARY = f"genai-prices {version('genai-prices')}"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "CHATNEST_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments: str) -> tuple[int, str]:
    """The exit code and the output."""
    with pytest.raises(SystemExit) as caught:
        main(["prices", *arguments])
    out, err = capsys.readouterr()
    assert not err or caught.value.code == 2
    assert isinstance(caught.value.code, int)
    return caught.value.code, out or err


def load(tmp_path, text: str) -> Config:
    (tmp_path / "chatnest.toml").write_text(text)
    return load_config(tmp_path / "chatnest.toml", {}, {})


@pytest.mark.parametrize("options", [[], ["--tiers"], ["--history"], ["--tiers", "--history"]])
def test_what_is_suggested_is_a_configuration_that_does_not_differ(capsys, tmp_path, options):
    load(tmp_path, MODELS)
    code, suggested = run(capsys, "suggest", "--config", "chatnest.toml", *options)
    config = load(tmp_path, MODELS + suggested)

    assert code == 0
    assert re.search(rf"From {re.escape(LIBRARY)}, on \d{{4}}-\d\d-\d\d\.", suggested)
    for name, section in config.models.items():
        prices = prices_of(f"models.{name}", section)
        assert prices is not None
        assert bool("tiers.priority" in suggested) == ("--tiers" in options)
        assert not any(each.is_free for each in prices.entries)
    large = prices_of("large", config.models["large"])
    assert large is not None
    assert (len(large.entries) > 1) == ("--history" in options)
    code, said = run(capsys, "check", "--config", "chatnest.toml")
    assert (code, said.splitlines()[-1]) == (0, "3 of 3 prices compared, 0 differences")


def test_a_match_that_is_loose_is_named(capsys, tmp_path):
    _, suggested = run(capsys, "suggest", "gpt-5-chat-latest", "gpt-5")

    assert suggested.count("loose match") == 1
    assert "the library has of gpt-5.\n[models.gpt-5-chat-latest.price]\n" in suggested


def test_the_only_model_has_a_section_of_its_own(capsys, tmp_path):
    text = '[provider]\nmodel = "gpt-4.1"\n'
    load(tmp_path, text)
    _, suggested = run(capsys, "suggest", "--config", "chatnest.toml")

    assert "[provider.price]" in suggested
    assert prices_of("provider", load(tmp_path, text + suggested).provider) is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "does not know nonsense at any provider"),
        (["gpt-4.1", "--provider", "github-copilot"], "has an empty price, which counts as 0"),
        (["moderation", "--provider", "openai"], "has an empty price, which counts as 0"),
        (["whisper-1", "--provider", "openai"], "no price for tokens of input, only audio_hours"),
        (["text-embedding-3-small", "--provider", "openai"], "no price for tokens of output"),
    ],
)
def test_a_model_without_a_price_gets_none(capsys, arguments, said):
    code, suggested = run(capsys, "suggest", *arguments)

    assert code == 1
    assert said in suggested
    assert "[" not in suggested.replace(f"[{arguments[0]}", "")


def test_no_model_of_the_library_is_free_by_accident():
    library = PriceLibrary()
    from genai_prices.data_snapshot import get_snapshot

    refused = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            try:
                found = library.find(model.id, provider=provider.id)
            except NoPrice:
                refused += 1
                continue
            assert found.tables
            for table in found.tables:
                assert (table["input"], table["output"]) != ("0.00", "0.00")
    assert refused > 179


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ({"input_mtok": Decimal(0), "output_mtok": Decimal(0)}, "has a price of 0: set price ="),
        ({"input_mtok": Decimal(1), "output_mtok": Decimal(1001)}, "$1001 per million tokens is a"),
        ({"input_mtok": Decimal(1)}, "no price for tokens of output, only input_mtok"),
        ({}, "has an empty price"),
    ],
)
def test_a_price_that_no_configuration_can_have_is_none(price, said):
    info = ModelInfo(id="m", match=ClauseEquals("m"), prices=ModelPrice(**price))
    provider = Provider(id="p", name="P", api_pattern="p", models=[info])

    with pytest.raises(NoPrice, match=re.escape(said)):
        found_of(provider, info, "m")


def test_a_price_with_too_many_digits_is_rounded_up_and_named():
    price = ModelPrice(input_mtok=Decimal("0.33333333"), output_mtok=Decimal("2E+1"))
    info = ModelInfo(id="m", match=ClauseEquals("m"), prices=price)
    found = found_of(Provider(id="p", name="P", api_pattern="p", models=[info]), info, "m")

    assert found.tables == [{"input": "0.333334", "output": "20.00"}]
    assert found.notes == ("0.33333333 is rounded up to 0.333334.",)


def test_prices_that_change_with_the_time_of_the_day_are_the_dearest():
    found = PriceLibrary().find("deepseek-chat", provider="deepseek")

    assert any("time of the day" in note for note in found.notes)
    assert found.tables[0]["input"] == "0.27"


def test_each_difference_is_named(capsys, tmp_path):
    prices = """
[models."small one".price]
input = "0.20"
cached_input = "0.025"
output = "2.00"
tiers.flex = {input = "0.125", cached_input = "0.0125", output = "9.00"}

[models.large.price]
input = "4.00"
cached_input = "0.40"
cache_write = "5.00"
output = "20.00"
"""
    load(tmp_path, MODELS + prices)
    code, said = run(capsys, "check", "--config", "chatnest.toml")
    lines = said.splitlines()

    assert code == 1
    assert 'models."small one": input is 0.20, there 0.25' in lines
    assert 'models."small one": tier flex: output is 9.00, there 1.00' in lines
    assert 'models."small one": the library has more service tiers: fast, priority' in lines
    assert "models.large: input above 272,000 tokens is 4.00, there 8.00" in lines
    assert f"models.sonnet: expected a price, since {LIBRARY} has one, got none" in lines
    assert lines[-1].startswith("2 of 3 prices compared, ")


def test_a_free_model_differs_from_one_that_has_a_price(capsys, tmp_path):
    load(tmp_path, '[provider]\nmodel = "gpt-4.1"\nprice = "free"\n')
    code, said = run(capsys, "check", "--config", "chatnest.toml")

    assert code == 1
    assert "provider: output is 0.00, there 8.00" in said


def test_a_check_that_compares_nothing_does_not_pass(capsys, tmp_path):
    load(
        tmp_path, '[provider]\nmodel = "own"\nbase_url = "http://127.0.0.1:9/v1"\nprice = "free"\n'
    )
    code, said = run(capsys, "check", "--config", "chatnest.toml")

    assert code == 3
    assert "not compared, since the library does not know own at http://127.0.0.1:9/v1" in said


def test_a_mistake_in_a_price_is_the_configuration_s(capsys, tmp_path):
    (tmp_path / "chatnest.toml").write_text('[provider]\nprice = {input = 1, output = "2"}\n')

    code, said = run(capsys, "check", "--config", "chatnest.toml")
    assert code == 2
    assert said.startswith("chatnest: chatnest.toml: provider.price.input: expected a price in quo")


def test_the_day_of_a_suggestion_is_in_it(capsys):
    _, suggested = run(capsys, "suggest", "gpt-5")

    assert date.fromisoformat(suggested.partition(", on ")[2][:10]) >= date(2026, 1, 1)
