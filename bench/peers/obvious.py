"""The obvious solution with Starlette, httpx and jsonschema, written in an hour."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import logging
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SCHEMA = json.loads(Path(os.environ["SCHEMA"]).read_text())
ROUTES = json.loads(Path(os.environ["ROUTES"]).read_text())
log = logging.getLogger("events")


async def post(client: httpx.AsyncClient, url: str, body: bytes, request_id: str) -> bool:
    headers = {"content-type": "application/json", "x-request-id": request_id}
    try:
        answer = await client.post(url, content=body, headers=headers, timeout=5)
        return answer.status_code == 200 and answer.json()["code"] == "000"
    except (httpx.HTTPError, ValueError, KeyError):
        return False


async def callback(request: Request) -> JSONResponse:
    request_id = str(uuid.uuid4())
    body = await request.body()
    try:
        event = json.loads(body)
        jsonschema.validate(event, SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return reply(400, "400", request_id)
    matching = [r for r in ROUTES if fnmatch.fnmatchcase(event["event_key"], r["match"])]
    urls = {url for route in matching for url in route["targets"]}
    client = request.app.state.client
    results = await asyncio.gather(*(post(client, url, body, request_id) for url in urls))
    good = bool(urls) and all(results)
    log.info("event %s %s %s", request_id, event["event_key"], good)
    return reply(200, "000", request_id) if good else reply(500, "500", request_id)


def reply(status: int, code: str, request_id: str) -> JSONResponse:
    members: dict[str, Any] = {"request_id": request_id, "code": code, "msg": ""}
    return JSONResponse(members, status)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as app.state.client:
        yield


app = Starlette(routes=[Route("/callback", callback, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    logging.basicConfig(filename=os.environ["LOG"], level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning")
