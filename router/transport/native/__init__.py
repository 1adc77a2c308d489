"""Our own engine, on asyncio and httptools."""

from router.transport.native.connection import NativePool, Posted, TargetConnection, target_and_host
