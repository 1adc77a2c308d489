"""The engine of our own, on asyncio and httptools: a pool, its connections, their answers."""

from router.transport.native.connection import NativePool, Posted, TargetConnection, target_and_host
