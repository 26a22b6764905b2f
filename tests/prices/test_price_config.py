"""Prices in a configuration: of models, of the only model, by date; and each mistake."""

import os

import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, MemoryLedger, Model
from chatnest.config.build import build_chat
from chatnest.config.sections import Config, load_config
from chatnest.events import Usage
from chatnest.models import Candidate
from chatnest.prices import Prices

CLOSE = 'base_url = "http://127.0.0.1:9/v1"\n'
MODELS = f"""\
[provider]
{CLOSE}
[models.small]
model = "gpt-5-mini"
price = {{input = "0.25", cached_input = "0.025", output = "2.00"}}

[models.local]
price = "free"

[models.unknown]

[models.large]

[[models.large.prices]]
input = "5.00"
output = "30.00"

[[models.large.prices]]
from = 2026-08-21
input = "4.00"
output = "20.00"
above = [{{tokens = 272_000, input = "8.00", output = "30.00"}}]
tiers.priority = {{input = "8.00", output = "40.00", above = []}}
"""
PRICE = {"input": "0.25", "output": "2.00"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "CHATNEST_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def load(tmp_path, text: str, *, demo: bool = False, **environ: str) -> Config:
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    return load_config(file, {"CHATNEST_LEDGER__URL": "memory:", **environ}, {}, demo=demo)


def models(tmp_path, text: str, **options) -> dict[str, Candidate]:
    chat = build_chat(load(tmp_path, text, **options))
    return {each.name: each for each in chat.models.candidates}


def charge(candidate: Candidate, usage: Usage, moment: int = 0) -> int:
    assert candidate.prices is not None
    return candidate.prices.at(moment).charge(usage)


def test_models_have_the_prices_of_their_sections(tmp_path):
    found = models(tmp_path, MODELS)
    autumn = 1_790_000_000_000

    assert charge(found["small"], Usage(100, 10, cached_tokens=40)) == 60 * 250 + 1_000 + 20_000
    assert charge(found["local"], Usage(100, 10)) == 0
    assert charge(found["large"], Usage(1, 0)) == 5_000
    assert charge(found["large"], Usage(1, 0), autumn) == 4_000
    assert charge(found["large"], Usage(1, 0, service_tier="priority"), autumn) == 8_000
    assert charge(found["large"], Usage(272_001, 0), autumn) == 272_001 * 8_000


def test_a_model_without_a_price_has_none_and_is_not_free(tmp_path):
    assert models(tmp_path, MODELS)["unknown"].prices is None


@pytest.mark.parametrize("demo", [False, True])
def test_the_only_model_has_the_price_of_its_provider(tmp_path, demo):
    text = f'[provider]\n{CLOSE}price = {{input = "0.25", output = "2"}}\n'
    (only,) = models(tmp_path, text, demo=demo).values()

    assert charge(only, Usage(1, 1)) == 2_250


def test_a_variable_of_the_environment_sets_a_price(tmp_path):
    environ = {
        "CHATNEST_MODELS__SMALL__PRICE__INPUT": "1.50",
        "CHATNEST_MODELS__UNKNOWN__PRICE": "free",
    }
    found = models(tmp_path, MODELS, **environ)

    assert charge(found["small"], Usage(1, 1)) == 3_500
    assert charge(found["unknown"], Usage(1, 1)) == 0


def test_python_takes_the_same_forms():
    forms = (PRICE, [PRICE], (PRICE,), Prices.of(PRICE))
    for prices in forms:
        model = Model(provider=DemoProvider(), prices=prices)
        several = ChatNestApp(models={"small": model}, ledger=MemoryLedger())
        only = ChatNestApp(provider=DemoProvider(), prices=prices, ledger=MemoryLedger())
        for chat in (several, only):
            assert charge(chat.models.default, Usage(1, 1)) == 2_250
    free = ChatNestApp(provider=DemoProvider(), prices="free", ledger=MemoryLedger())
    assert charge(free.models.default, Usage(1, 1)) == 0
    assert ChatNestApp(provider=DemoProvider()).models.default.prices is None


@pytest.mark.parametrize(
    ("prices", "start"),
    [
        ({"input": 0.25, "output": "2"}, "prices.input: expected a price in quotes"),
        ({}, "prices: expected prices of input and output"),
        ([], 'prices: expected "free"'),
    ],
)
def test_python_names_the_argument_of_a_mistake(prices, start):
    with pytest.raises(ConfigurationError) as caught:
        ChatNestApp(provider=DemoProvider(), prices=prices)
    assert caught.value.detail.startswith(start)
    with pytest.raises(ConfigurationError) as caught:
        ChatNestApp(models={"small": Model(provider=DemoProvider(), prices=prices)})
    assert caught.value.detail.startswith(f"models.small.{start}")


def test_prices_of_the_provider_beside_models_are_refused():
    with pytest.raises(ConfigurationError, match="prices: expected the prices of provider"):
        ChatNestApp(models={"small": Model(provider=DemoProvider())}, prices="free")


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (
            'price = {input = 0.25, output = "2.00"}',
            (
                "models.small.price.input: expected a price in quotes, since a number in TOML may "
                'lose digits, got 0.25. Write it as "0.25", in dollars per million tokens.'
            ),
        ),
        ('price = {input = "1"}', "models.small.price: expected prices of input and output"),
        ("price = {}", "models.small.price: expected prices of input and output"),
        ('price = ""', 'models.small.price: expected "free", or a table'),
        ("price = 0", "models.small.price: expected "),
        ("prices = []", 'models.small.prices: expected "free", or a table'),
        ('prices = "free"', "models.small.prices: expected a list, got a string."),
        ("prices = [{}]", "models.small.prices[0]: expected prices of input and output"),
        (
            'prices = [{input = "1", output = "1"}, {input = "1", output = "1"}]',
            "models.small.prices[1].from: expected a later date",
        ),
        (
            'price = "free"\nprices = [{input = "1", output = "1"}]',
            "models.small.price: expected price or prices, got both.",
        ),
    ],
)
def test_a_mistake_is_named_by_its_file_and_key(tmp_path, price, said):
    with pytest.raises(ConfigurationError) as caught:
        models(tmp_path, f"[provider]\n{CLOSE}[models.small]\n{price}\n")
    assert caught.value.detail.startswith(f"{tmp_path / 'chatnest.toml'}: {said}")


def test_a_mistake_in_the_only_model_s_price_is_named_by_its_key(tmp_path):
    with pytest.raises(ConfigurationError, match=r"toml: provider\.price\.input: expected a price"):
        models(tmp_path, f"[provider]\n{CLOSE}price = {{input = 1, output = '2'}}\n")


def test_a_price_of_the_provider_beside_models_is_refused(tmp_path):
    text = MODELS.replace(CLOSE, f'{CLOSE}price = "free"\n')

    with pytest.raises(
        ConfigurationError, match=r"provider\.price: expected no setting of a model"
    ):
        models(tmp_path, text)


def test_the_currency_is_a_code_of_three_letters(tmp_path):
    assert load(tmp_path, "").ledger.currency == "USD"
    assert load(tmp_path, '[ledger]\ncurrency = "EUR"\n').ledger.currency == "EUR"
    for wrong in ("usd", "$", "US", "USDT", "", "US\n"):
        with pytest.raises(ConfigurationError, match=r"ledger\.currency: expected a code"):
            load(tmp_path, f"[ledger]\ncurrency = {wrong!r}\n".replace("'", '"'))
