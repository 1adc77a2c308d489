"""A receiver with the standard library alone, with the functions of docs/how-to/receivers.md.

SECRET=whsec_... python3 plain_receiver.py
"""

import base64
import hmac
import json
import os
import sqlite3
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def trusted(secret: str, headers: dict[str, str], body: bytes) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    at = headers.get("webhook-timestamp", "")
    if not at.isdecimal() or abs(time.time() - int(at)) > 300:
        return False
    signed = f"{headers.get('webhook-id')}.{at}.".encode() + body
    right = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(each.encode(), right) for each in given)


def handle(webhook_id: str, body: bytes, database: sqlite3.Connection) -> dict[str, str]:
    with database:  # all of it or nothing, and durable before the answer
        new = database.execute("INSERT OR IGNORE INTO done VALUES (?)", (webhook_id,)).rowcount
        if new:
            work(json.loads(body), database)
    return {"code": "000", "msg": "成功"}


def work(event: dict, database: sqlite3.Connection) -> None:
    print(event["event_topic"], event["event_status"], event["changes"])


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 makes a sixth concurrent request wait a second


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not trusted(os.environ["SECRET"], headers, body):
            return self.answer(401, {"code": "401", "msg": "not signed by our secret"})
        try:
            with closing(sqlite3.connect("endpoint.db", timeout=3)) as database:
                database.execute("CREATE TABLE IF NOT EXISTS done (webhook_id TEXT PRIMARY KEY)")
                self.answer(200, handle(headers["webhook-id"], body, database))
        except (json.JSONDecodeError, UnicodeDecodeError):
            self.answer(400, {"code": "400", "msg": "not JSON"})
        except Exception as error:
            self.answer(500, {"code": "500", "msg": type(error).__name__})

    def answer(self, status: int, reply: dict[str, str]) -> None:
        content = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Server(("127.0.0.1", 9002), Endpoint).serve_forever()
