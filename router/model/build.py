"""What of the router runs: its Python, or the same compiled."""

from router.model import event

#: Whether the modules of an event's path are C here, made of the same source: the build hook lists them.
COMPILED = not event.__file__.endswith(".py")
