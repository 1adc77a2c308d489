"""An event to its targets and back: decide, send, remember, retry, tell."""

from router.delivery.forwarder import Forwarder, Outcome
from router.delivery.memory import Memory
from router.delivery.observer import Observer, Told
from router.delivery.queue import InForce, Queue
from router.delivery.target.sender import Sender
from router.delivery.traced import TracedSender

__all__ = [
    "Forwarder",
    "InForce",
    "Memory",
    "Observer",
    "Outcome",
    "Queue",
    "Sender",
    "Told",
    "TracedSender",
]
