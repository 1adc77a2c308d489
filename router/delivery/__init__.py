"""An event to its targets and back: decide, send, remember, retry, tell."""

from router.delivery.forwarder import Forwarder, Outcome
from router.delivery.memory import Memory
from router.delivery.observer import Observer, Told
from router.delivery.pausing import Pausing
from router.delivery.queue import InForce, Queue
from router.delivery.target.judge import judge
from router.delivery.target.lane import usual_lines
from router.delivery.target.sender import Sender, addressed
from router.delivery.traced import TracedSender

__all__ = [
    "Forwarder",
    "InForce",
    "Memory",
    "Observer",
    "Outcome",
    "Pausing",
    "Queue",
    "Sender",
    "Told",
    "TracedSender",
    "addressed",
    "judge",
    "usual_lines",
]
