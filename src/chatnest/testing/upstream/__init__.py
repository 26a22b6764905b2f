"""An OpenAI-compatible upstream with scripted answers, faults included.

Run it by hand: ``python -m chatnest.testing.upstream --port 9000 --pieces 200 --pace 0.02``.
"""

from chatnest.testing.upstream import faults
from chatnest.testing.upstream.answers import CANARY, Answer
from chatnest.testing.upstream.record import SeenRequest
from chatnest.testing.upstream.server import FakeUpstream

__all__ = ["CANARY", "Answer", "FakeUpstream", "SeenRequest", "faults"]
