// A receiver with Express. SECRET=whsec_... node express_receiver.mjs

import Database from "better-sqlite3";
import express from "express";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const webhook = new Webhook(process.env.SECRET);
const database = new Database(process.env.DATABASE ?? "inbox.db");
database.exec(
  "CREATE TABLE IF NOT EXISTS inbox (webhook_id TEXT PRIMARY KEY, body BLOB, done INTEGER)",
);
const put = database.prepare("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0)");
const undone = database.prepare("SELECT webhook_id, body FROM inbox WHERE NOT done LIMIT 1");
const done = database.prepare("UPDATE inbox SET done = 1 WHERE webhook_id = ?");

// Replace this. Writes to the database are committed together with the row's mark.
function work(event) {
  console.log(event.event_status, event.changes);
}

function workAfterwards() {
  const row = undone.get();
  if (row === undefined) return;
  try {
    database.transaction(() => {
      work(JSON.parse(row.body));
      done.run(row.webhook_id);
    })();
    setImmediate(workAfterwards);
  } catch (error) {
    console.error("failed, next try in 10 s:", error);
    setTimeout(workAfterwards, 10_000);
  }
}

const app = express();
app.use(express.raw({ type: () => true, limit: "2mb" }));

app.post("/callback", (request, response) => {
  try {
    webhook.verify(request.body, request.headers, { jsonParse: false });
    JSON.parse(request.body);
  } catch (error) {
    const code = error instanceof WebhookVerificationError ? 401 : 400;
    return response.status(code).json({ code: `${code}`, msg: error.message });
  }
  put.run(request.headers["webhook-id"], request.body); // durable before the answer
  setImmediate(workAfterwards);
  response.json({ code: "000", msg: "成功" });
});

app.all("/callback", (_, response) => response.status(405).json({ code: "405", msg: "POST it" }));
app.listen(process.env.PORT ?? 9002, "127.0.0.1");
workAfterwards();
