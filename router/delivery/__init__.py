"""An event to its targets and back: decide, send, remember, retry, tell."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.delivery.forwarder import Forwarder, Outcome
    from router.delivery.happenings.noticed import Happenings
    from router.delivery.happenings.own_events import OwnEvents
    from router.delivery.memory import Memory
    from router.delivery.observer import Observer, Told
    from router.delivery.pausing import Pausing
    from router.delivery.queue import Queue
    from router.delivery.rules import InForce
    from router.delivery.target.judge import judge
    from router.delivery.target.lane import usual_lines
    from router.delivery.target.sender import Sender, addressed
    from router.delivery.traced import TracedSender

__getattr__ = on_demand(__name__)
