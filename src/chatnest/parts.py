"""Parts: the parts of an application, checked and put together once."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import get_args

from chatnest._util.arguments import check_kinds, check_parts, check_positive
from chatnest.accounting.accounts import Accounts
from chatnest.accounting.local_books import WhenAway
from chatnest.alerts.deliveries import Deliveries
from chatnest.alerts.warning import OnWarning
from chatnest.answering import Answering
from chatnest.attempts import Attempts
from chatnest.bounds import Bounds, ResolvedBounds
from chatnest.endpoints.chat import ChatEndpoint
from chatnest.endpoints.limits import LimitsEndpoint
from chatnest.endpoints.models import ModelsEndpoint
from chatnest.endpoints.run import RunEndpoint
from chatnest.endpoints.usage import UsageEndpoint
from chatnest.errors import ConfigurationError
from chatnest.identity.access import Access, AllowedProfiles
from chatnest.identity.base import Identify
from chatnest.identity.plan_lookup import PlanLookup, PlanOf
from chatnest.identity.plans import Plan
from chatnest.identity.principals import UserOrAddress
from chatnest.incoming import ClientSystemPrompt, Incoming
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.lifespan import Lifetime
from chatnest.live import LiveAnswers
from chatnest.lookups import LookUps
from chatnest.models import Catalogue, Model
from chatnest.policies import LimitRules, Policy, standard_policies
from chatnest.policies.base import PolicyChain
from chatnest.prices import PricesGiven
from chatnest.profiles import HardCaps, Profile, check_profiles
from chatnest.providers import OpenAIProvider, Provider
from chatnest.requests import EventKind
from chatnest.runs import RunLog, RunSettings
from chatnest.runs.place import beside
from chatnest.runs.service import Runs
from chatnest.streams.intake import Intake
from chatnest.streams.open_streams import OpenStreams
from chatnest.telemetry import Observer
from chatnest.telemetry.observers import Observers
from chatnest.telemetry.series import Known
from chatnest.wire import FormatName, Formats, WireFormat, formats_of

__all__ = ["Parts"]


class Parts:
    """The parts of one ChatNestApp, from its arguments. Raises ConfigurationError."""

    def __init__(
        self,
        *,
        provider: Provider | None,
        models: Mapping[str, Model] | None,
        prices: PricesGiven | None,
        currency: str,
        profiles: Iterable[Profile],
        hard_caps: HardCaps,
        default_profile: str,
        allowed_profiles: AllowedProfiles | None,
        plans: Mapping[str, Plan] | None,
        default_plan: str | None,
        plan_of: PlanOf | None,
        plan_seconds: float,
        policies: Sequence[Policy] | None,
        ledger: Ledger | None,
        identify: Identify | None,
        system_prompt: str,
        client_system_prompt: ClientSystemPrompt | None,
        allow_client_system_prompt: bool | None,
        usage_event: bool,
        events: Collection[str],
        charge_unanswered: bool | None,
        when_away: WhenAway | None,
        ping_interval: float,
        bounds: Bounds | None,
        runs: RunSettings | None,
        run_log: RunLog | None,
        drain_at_signal: float | None,
        formats: Sequence[WireFormat | FormatName],
        observers: Sequence[Observer],
        on_warning: OnWarning | None,
    ) -> None:
        check_positive(ping_interval=ping_interval, plan_seconds=plan_seconds)
        check_kinds(
            hard_caps=(hard_caps, HardCaps),
            bounds=(bounds, Bounds),
            runs=(runs, RunSettings),
            when_away=(when_away, WhenAway),
        )
        self.profiles: dict[str, Profile] = check_profiles(profiles, hard_caps)
        check_parts(provider=provider, ledger=ledger, identify=identify)
        self.ledger: Ledger = ledger if ledger is not None else MemoryLedger()
        self.provider: Provider = _default_provider(provider, models)
        self.models: Catalogue = _catalogue(models, self.provider, prices, self.profiles)
        local = [getattr(each, "is_local", False) for each in self.models.providers]
        resolved = (bounds if bounds is not None else Bounds()).resolved(local=any(local))
        settings = runs if runs is not None else RunSettings()
        log = run_log if run_log is not None else beside(self.ledger, settings)
        self.bounds: ResolvedBounds = resolved
        access = Access(
            identify=identify if identify is not None else UserOrAddress(),
            profiles=self.profiles,
            default=default_profile,
            allowed=allowed_profiles,
            models=self.models.names_by_profile,
            plans=plans,
            default_plan=default_plan,
            plan_lookup=_plan_lookup(plan_of, plan_seconds, resolved),
        )
        chain = PolicyChain(standard_policies() if policies is None else policies)
        rules = [policy for policy in policies or () if isinstance(policy, LimitRules)]
        for policy in rules:
            policy.check(self.models.candidates)
        deliveries = Deliveries(
            self.ledger,
            on_warning,
            watches=any(rule.warn_at for policy in rules for rule in policy.rules),
            currency=currency,
        )
        self.accounts: Accounts = Accounts(
            self.ledger,
            resolved,
            charge_unanswered=charge_unanswered is not False,
            charge_timeouts=charge_unanswered is True or not all(local),
            when_away=when_away,
            currency=currency,
            nudge=deliveries.nudge,
            has_prices=any(each.prices is not None for each in self.models.candidates),
        )
        self.known: Known = Known(
            models=tuple(each.name for each in self.models.candidates),
            upstreams=tuple(each.upstream for each in self.models.candidates),
            profiles=tuple(self.profiles),
            limits=chain.limit_names,
            currency=currency,
        )
        self.streams: OpenStreams = OpenStreams(resolved.settle_seconds)
        self.observers: Observers = Observers(observers)
        self.lifetime: Lifetime = Lifetime(
            models=self.models,
            ledger=self.ledger,
            accounts=self.accounts,
            streams=self.streams,
            run_log=log,
            bounds=resolved,
            observers=self.observers,
            live=LiveAnswers(log, self.streams, resolved),
            drain_at_signal=drain_at_signal,
            deliveries=deliveries,
            budgets=chain.budgets,
        )
        answering = Answering(
            Attempts(chain, resolved, self.observers),
            chain,
            self.accounts,
            resolved,
            self.observers,
        )
        incoming = Incoming(
            access,
            self.models,
            resolved,
            self.streams,
            system_prompt=system_prompt,
            client_system_prompt=_client_system_prompt(
                client_system_prompt, allowed=allow_client_system_prompt
            ),
            usage_event=usage_event,
            events=_event_kinds(events),
            ping_seconds=ping_interval,
            keep_headers=chain.needs_headers,
            deduplicates=settings.deduplicate,
        )
        self.intake: Intake = Intake(
            resolved.lag_seconds, resolved.streams, partial(len, self.streams)
        )
        look_ups = LookUps(resolved.look_ups_per_minute)
        runs_ = Runs(
            log,
            settings,
            resolved,
            self.streams,
            answering,
            observers=self.observers,
            realm=f"{self.models.realm}\0{system_prompt}",
        )
        self.formats: Formats = Formats(formats_of(formats or ("native",)))
        self.chat: ChatEndpoint = ChatEndpoint(
            incoming=incoming,
            answering=answering,
            runs=runs_,
            streams=self.streams,
            intake=self.intake,
            bounds=resolved,
            observers=self.observers,
        )
        self.run: RunEndpoint = RunEndpoint(
            access=access,
            look_ups=look_ups,
            incoming=incoming,
            runs=runs_,
            streams=self.streams,
            intake=self.intake,
            bounds=resolved,
            model=self.models.default.name,
        )
        self.model_list: ModelsEndpoint = ModelsEndpoint(
            access=access, look_ups=look_ups, models=self.models, bounds=resolved
        )
        self.has_keys: bool = bool(getattr(identify, "challenge", ""))
        self.usage: UsageEndpoint = UsageEndpoint(
            access=access,
            look_ups=look_ups,
            ledger=self.ledger,
            bounds=resolved,
            currency=currency,
        )
        self.limits: LimitsEndpoint = LimitsEndpoint(
            access=access,
            look_ups=look_ups,
            incoming=incoming,
            policies=chain,
            ledger=self.ledger,
            models=self.models,
            bounds=resolved,
            currency=currency,
        )


def _plan_lookup(
    plan_of: PlanOf | None, seconds: float, bounds: ResolvedBounds
) -> PlanLookup | None:
    if plan_of is None:
        return None
    given: object = plan_of
    if not callable(given):
        raise ConfigurationError(
            f"plan_of: expected an async function, got {type(given).__name__}."
        )
    return PlanLookup(plan_of, seconds=seconds, deadline=bounds.plan_lookup_seconds)


def _client_system_prompt(
    chosen: ClientSystemPrompt | None, *, allowed: bool | None
) -> ClientSystemPrompt:
    if chosen is not None and allowed is not None:
        raise ConfigurationError(
            "client_system_prompt: expected it or allow_client_system_prompt, got both. Remove "
            "allow_client_system_prompt."
        )
    if chosen is None:
        return "allow" if allowed else "ignore"
    words = get_args(ClientSystemPrompt)
    if chosen not in words:
        raise ConfigurationError(
            f"client_system_prompt: expected one of {', '.join(words)}, got {chosen!r}."
        )
    return chosen


def _event_kinds(names: Collection[str]) -> frozenset[EventKind]:
    known: tuple[EventKind, ...] = get_args(EventKind)
    if isinstance(names, str) or not set(names).issubset(known):
        raise ConfigurationError(
            f"events: expected a list of some of {', '.join(known)}, got {names!r}."
        )
    return frozenset(kind for kind in known if kind in names)


def _default_provider(provider: Provider | None, models: Mapping[str, Model] | None) -> Provider:
    if models is None:
        return provider if provider is not None else OpenAIProvider()
    if provider is not None:
        raise ConfigurationError(
            "provider: expected provider or models, got both. Put the provider into a Model."
        )
    given: object = models
    first = next(iter(given.values()), None) if isinstance(given, Mapping) else None
    if not isinstance(first, Model):
        raise ConfigurationError(
            f"models: expected a dict of at least one Model by name, got {models!r}."
        )
    return first.provider


def _catalogue(
    models: Mapping[str, Model] | None,
    provider: Provider,
    prices: PricesGiven | None,
    profiles: Mapping[str, Profile],
) -> Catalogue:
    if models is None:
        return Catalogue.of_one(provider, profiles, prices)
    if prices is not None:
        raise ConfigurationError(
            "prices: expected the prices of provider, got models as well. Put prices into each "
            "Model."
        )
    return Catalogue.of(models, profiles)
