"""The build: pure Python or compiled."""

from router.model import event

#: True if the modules on the path of an event are compiled to C (hatch_build.py).
COMPILED = not event.__file__.endswith(".py")
