"""ChargeRules: the charge of a turn, from the provider's figure or from our own count."""

from typing import Final, Literal

import msgspec
from anyio import fail_after, move_on_after

from chatnest.accounting.bills import bill
from chatnest.accounting.hidden import HiddenThinking
from chatnest.endings import StopAnswer
from chatnest.errors import ChatNestError, UpstreamError, UpstreamTimeout
from chatnest.events import Usage
from chatnest.ledger.base import Charge, Hold
from chatnest.turn import Turn

__all__ = ["ChargeRules"]

_COUNTING_SECONDS: Final = 1.0
"""Maximum seconds for counting an answer. Its settlement must not wait for a busy core."""

_MOST_TOKENS: Final = 2_000_000_000
"""Maximum tokens of a plausible figure. A larger one is ignored."""


class ChargeRules(msgspec.Struct, frozen=True):
    """Decides what a turn is charged.

    ``unanswered`` is whether a call that reached the model but got no answer is charged for its
    input. ``timeouts`` is whether this also applies to a call that took too long.
    """

    unanswered: bool = True
    timeouts: bool = True
    hidden: HiddenThinking = msgspec.field(default_factory=HiddenThinking)

    async def charge(self, turn: Turn, hold: Hold, failure: BaseException | None) -> Charge:
        """The charge of a turn that ``failure`` or the model has ended (promise B).

        If there is a final figure of the provider, it is the charge. If the model was not reached,
        the charge is 0. Otherwise it is our count of the input and of the output that has arrived,
        plus two estimates within the hold: the thinking that may be hidden, and, for an answer that
        was cut off, a margin for tokens that had not been read yet. An early figure of the provider
        counts only if it covers the output that has arrived. Text that has arrived is always
        charged.
        """
        answer = turn.answer
        usage = answer.usage
        if usage is not None and not _is_plausible(usage):
            usage = answer.usage = None
        if usage is not None and not (usage.input_tokens and usage.output_tokens):
            usage = answer.usage = _completed(turn, usage)
        source: Literal["provider", "estimated", "none"]
        if usage is not None and answer.finish_reason is not None:
            spent, output, source = usage.input_tokens, usage.output_tokens, usage.source
            if usage.reasoning_tokens:
                self.hidden.learn(turn, usage)
        elif not self._reached_model(turn, failure):
            spent, output, source = 0, 0, "none"
        else:
            spent, output, source = turn.input_tokens, await _delivered(turn), "estimated"
            if usage is not None and usage.output_tokens >= output:
                spent, output, source = usage.input_tokens, usage.output_tokens, usage.source
            else:
                # An early figure below the delivered text is ignored: it is not the final one.
                more = await self._hidden(turn)
                if failure is not None and answer.finish_reason is None:
                    more += max(8, output // 20)
                output = max(output, min(output + more, hold.tokens - spent))
        counted = None
        if source != "none":
            counted = _counted(usage, spent, output, source)
        money, facts = bill(turn, counted)
        return Charge(
            tokens=spent + output,
            money=money,
            facts=facts,
            input_tokens=spent,
            output_tokens=output,
            source=source,
            outcome=_outcome(failure),
            principal=turn.principal,
            profile=turn.profile.name,
            model=turn.model,
        )

    async def _hidden(self, turn: Turn) -> int:
        """Tokens of thinking in addition to those that were shown."""
        most = self.hidden.tokens(turn)
        if not most:
            return 0
        with move_on_after(_COUNTING_SECONDS):
            return max(0, most - await turn.thinking_tokens())
        return most

    def _reached_model(self, turn: Turn, failure: BaseException | None) -> bool:
        if turn.answer.said:
            return True
        if turn.call is None or not turn.call.sent:
            return False
        if isinstance(failure, UpstreamError) and not failure.reached_model:
            return False
        if isinstance(failure, UpstreamTimeout) and not self.timeouts:
            return False
        return turn.answer.begun or self.unanswered


def _counted(
    usage: Usage | None, spent: int, output: int, source: Literal["provider", "estimated"]
) -> Usage:
    """The usage that is charged: the provider's, or one from our own count."""
    figures = spent, output, source
    if usage is not None and (usage.input_tokens, usage.output_tokens, usage.source) == figures:
        return usage
    return Usage(spent, output, source)


def _is_plausible(usage: Usage) -> bool:
    """Whether both figures are whole numbers in a plausible range. A custom provider may report
    anything, and a negative figure would give tokens back.
    """
    figures = (usage.input_tokens, usage.output_tokens)
    are_whole = type(figures[0]) is int and type(figures[1]) is int
    return are_whole and min(figures) >= 0 and max(figures) <= _MOST_TOKENS


def _completed(turn: Turn, usage: Usage) -> Usage | None:
    """Complete a usage that lacks its input or its output. A usage without input is a total: our
    own count of the input is split off. A usage without output is dropped if the model answered.
    """
    if not usage.output_tokens:
        return None if turn.answer.said else usage
    taken = min(turn.input_tokens, usage.output_tokens - 1)
    output = usage.output_tokens - taken
    return msgspec.structs.replace(usage, input_tokens=taken, output_tokens=output)


async def _delivered(turn: Turn) -> int:
    """Tokens of the answer so far, or an upper bound of them if counting takes too long."""
    try:
        with fail_after(_COUNTING_SECONDS):
            return await turn.output_tokens()
    except TimeoutError:
        return turn.most_output_tokens()


def _outcome(failure: BaseException | None) -> str:
    if failure is None or isinstance(failure, StopAnswer):
        return "done"
    return failure.code if isinstance(failure, ChatNestError) else "cancelled"
