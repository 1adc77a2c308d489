"""A receiver with FastAPI.

SECRET=whsec_... uvicorn --port 9002 fastapi_receiver:app
"""

import json
import os

import inbox
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from standardwebhooks import Webhook, WebhookVerificationError

app = FastAPI()
webhook = Webhook(os.environ["SECRET"])


@app.post("/callback")
async def callback(request: Request) -> JSONResponse:
    body = await request.body()
    try:
        webhook.verify(body, dict(request.headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return JSONResponse({"code": "401", "msg": "not signed by our secret"}, 401)
    try:
        json.loads(body)
    except ValueError:
        return JSONResponse({"code": "400", "msg": "not JSON"}, 400)
    await run_in_threadpool(inbox.put, request.headers["webhook-id"], body)
    return JSONResponse({"code": "000", "msg": "成功"})
