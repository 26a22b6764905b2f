"""RunFacts: what the frames of an answer need to know about its request. No I/O."""

import msgspec

__all__ = ["RunFacts"]


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a run, and which protocol its client speaks: ``is_0`` for 0.0.x, which ends with
    an error at what 1.0 has added.

    The ids of the answer's messages begin with ``prefix``, so that they are the same when the
    answer is sent again. ``call_ids`` are the ids of the calls that the client already has.
    """

    thread_id: str
    run_id: str
    prefix: str
    is_0: bool = True
    call_ids: frozenset[str] = frozenset()
