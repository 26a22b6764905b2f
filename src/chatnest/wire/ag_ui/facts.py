"""RunFacts: the facts about a request that the frames of its answer need. No I/O."""

import msgspec

__all__ = ["RunFacts"]


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a run, and the version of its client's protocol: ``is_0`` for 0.0.x, whose clients
    reject the additions of 1.0.

    The ids of the answer's messages begin with ``prefix``, so that they are the same when the
    answer is sent again. ``call_ids`` are the ids of the calls that the client already has.
    """

    thread_id: str
    run_id: str
    prefix: str
    is_0: bool = True
    call_ids: frozenset[str] = frozenset()
