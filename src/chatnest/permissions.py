"""Permissions: whether a profile and its model allow what a request asks for. No I/O."""

from itertools import chain
from operator import attrgetter
from typing import Final, get_args

from chatnest.conversation import Image, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.models import Candidate
from chatnest.profiles import Profile
from chatnest.requests import DEFAULT_SAMPLING, ChatRequest, Effort, Sampling

__all__ = ["check_permissions"]

_EFFORTS: Final[tuple[Effort, ...]] = get_args(Effort)


def check_permissions(request: ChatRequest, profile: Profile, model: Candidate) -> None:
    """Raise InvalidRequest for anything that the operator has not allowed. The sentence names the
    field and what would be accepted.
    """
    if request.tools:
        _check_tools(request, profile)
    if request.output is not None and not profile.structured_output:
        raise _not_allowed("an output format", profile)
    if request.effort is not None:
        _check_effort(request.effort, profile)
    if request.sampling is not _DEFAULT and request.sampling != _DEFAULT:
        _check_sampling(request.sampling, profile)
    kinds = list(map(type, chain.from_iterable(map(attrgetter("parts"), request.messages))))
    if images := kinds.count(Image):
        _check_images(images, profile, model)
    if not profile.tools and (ToolCall in kinds or ToolResult in kinds):
        raise _not_allowed("tools", profile)


_DEFAULT: Final = DEFAULT_SAMPLING
_FREE: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


def _check_tools(request: ChatRequest, profile: Profile) -> None:
    if not profile.tools:
        raise _not_allowed("tools", profile)
    if len(request.tools) > profile.max_tools:
        raise InvalidRequest(f"tools: must be at most {profile.max_tools}.")
    names = [tool.name for tool in request.tools]
    if len(set(names)) < len(names):
        raise InvalidRequest("tools: must have different names.")
    if request.tool_choice.name is not None and request.tool_choice.name not in names:
        raise InvalidRequest("must be the name of one of the tools.", field="toolChoice")


def _check_effort(effort: Effort, profile: Profile) -> None:
    most = profile.max_reasoning_effort
    if most is None:
        raise _not_allowed("a reasoning effort", profile)
    allowed = _EFFORTS[: _EFFORTS.index(most) + 1]
    if effort not in allowed:
        raise InvalidRequest(f"must be one of {', '.join(allowed)}.", field="reasoningEffort")


def _check_sampling(sampling: Sampling, profile: Profile) -> None:
    if sampling.stop and not profile.stop:
        raise _not_allowed("stop words", profile)
    if sampling.seed is not None and not profile.seed:
        raise _not_allowed("a seed", profile)
    if not profile.sampling:
        for name in _FREE:
            if getattr(sampling, name) is not None:
                raise _not_allowed(f"the field {name}", profile)


def _check_images(images: int, profile: Profile, model: Candidate) -> None:
    if not profile.images:
        raise _not_allowed("images", profile)
    if not model.takes_images:
        raise InvalidRequest("this model takes no images.", field="messages")
    if images > profile.max_images:
        raise InvalidRequest(f"must have at most {profile.max_images} images.", field="messages")


def _not_allowed(what: str, profile: Profile) -> InvalidRequest:
    return InvalidRequest(f"The profile {profile.name!r} does not allow {what}.")
