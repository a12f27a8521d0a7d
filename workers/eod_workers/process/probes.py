"""Liveness, readiness and metrics over HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from eod_workers.runtime.health import Health


def registry_of(metrics: Iterable[Collector]) -> CollectorRegistry:
    """What a process exports: these, and what is worth knowing of any process in Python."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    for metric in metrics:
        registry.register(metric)
    return registry


async def serve_health(health: Health, registry: CollectorRegistry, host: str, port: int) -> web.AppRunner:
    """Serves /livez, /readyz, /health and /metrics; the caller cleans the runner up."""

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_request: web.Request) -> web.Response:
        if health.why_not:
            return web.Response(status=503, text=health.why_not + "\n")
        return web.Response(text="ok\n")

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes(
        [web.get("/livez", live), web.get("/readyz", ready), web.get("/health", ready), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
