"""The engine of our own, on asyncio and httptools: a pool, its connections, their answers."""

from router.transport.native.connection import Posted, TargetConnection
from router.transport.native.pool import NativePool, target_and_host
