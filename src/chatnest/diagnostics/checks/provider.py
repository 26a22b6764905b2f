"""Checks of the provider: its key, its address, its model, and the network between. No I/O."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from chatnest._util.addresses import is_local, is_loopback
from chatnest.config.sections import Api, ProviderSection
from chatnest.config.thinking import reasoning_warnings
from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, fail, ok, warn
from chatnest.providers.openai.request import split_query

__all__ = ["PROVIDER_CHECKS"]

_OWNERS: Final[Mapping[Api, str]] = {
    "openai-chat": "OpenAI's API",
    "openai-responses": "OpenAI's API",
    "anthropic-messages": "Anthropic's API",
}


def _key(findings: Findings) -> Check:
    name, key = f"{findings.place}.key", findings.key
    if findings.config.demo:
        return ok(name, "not needed: --demo serves canned answers")
    if findings.has_key:
        return ok(name, f"{key} is set")
    if findings.base_url:
        return ok(name, "not set; your own server may not need one")
    return fail(
        name, f"{key} is not set", f"set it, set {findings.place}.base_url, or serve with --demo"
    )


def _address(findings: Findings) -> Check | None:
    name, url = f"{findings.place}.base_url", findings.base_url
    if findings.config.demo:
        return None
    if not url:
        return ok(name, _OWNERS[findings.api])
    parts = urlsplit(split_query(url, {})[0])
    host = parts.hostname or ""
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # no password
    if parts.scheme == "http" and not _is_here(host):
        return warn(
            name,
            f"{shown} is not encrypted: others on the network can read the key and all messages",
            "use https://",
        )
    return ok(name, shown)


def _network(findings: Findings) -> Check | None:
    """Report the proxy and the trusted certificates between this machine and the provider."""
    if findings.config.demo:
        return None
    found = [f"through the proxy {findings.proxy}" if findings.proxy else "directly"]
    found += [f"trusting {findings.trust}"] if findings.trust else []
    return ok(f"{findings.place}.network", ", ".join(found))


def _model(findings: Findings) -> Check | None:
    name, provider = "provider.model", findings.config.provider
    if findings.config.demo or findings.models:
        return None
    host = urlsplit(findings.base_url).hostname or ""
    if findings.base_url and is_local(host) and provider.model == ProviderSection().model:
        return warn(
            name,
            f"{provider.model} is the default, but {host} is a local server with its own models",
            "set provider.model to one of them",
        )
    for _, *thinking in reasoning_warnings(findings.config):
        return fail(name, *thinking)
    return ok(name, provider.model)


def _is_here(host: str) -> bool:
    return is_loopback(host) or host.endswith(".localhost")


PROVIDER_CHECKS: Final[tuple[CheckFunction, ...]] = (_key, _address, _network, _model)
