"""Our own engine, on asyncio and httptools."""

from router.transport.native.connection import NativePool
