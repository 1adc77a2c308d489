"""What of the router runs: its Python, or the same compiled."""

from router.model import event

#: Whether the modules that an event passes are C here, made of the same source by a build hook.
COMPILED = not event.__file__.endswith(".py")
