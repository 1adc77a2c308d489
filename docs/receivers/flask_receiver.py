"""A receiver with Flask.

SECRET=whsec_... gunicorn --threads 8 --keep-alive 5 --bind 127.0.0.1:9002 flask_receiver:app
"""

import json
import os

import inbox
from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

app = Flask(__name__)
webhook = Webhook(os.environ["SECRET"])


@app.post("/callback")
def callback():
    body = request.get_data()
    try:
        webhook.verify(body, dict(request.headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return {"code": "401", "msg": "not signed by our secret"}, 401
    try:
        json.loads(body)
    except ValueError:
        return {"code": "400", "msg": "not JSON"}, 400
    inbox.put(request.headers["webhook-id"], body)
    return {"code": "000", "msg": "成功"}
