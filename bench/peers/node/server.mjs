// The same in Node.js, as a good engineer would write it for speed: http, ajv and undici.
import { createWriteStream, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import Ajv from "ajv/dist/2020.js";
import { Pool } from "undici";

const { PORT, ROUTES, SCHEMA, LOG } = process.env;
const valid = new Ajv({ allowUnionTypes: true }).compile(JSON.parse(readFileSync(SCHEMA)));
const log = createWriteStream(LOG, { flags: "a" });
const MAX_BODY = 1024 * 1024;

const glob = (text) =>
  new RegExp("^" + text.replace(/[.+^${}()|\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".") + "$", "s");
const pools = new Map();
const target = (url) => {
  const { origin, pathname } = new URL(url);
  if (!pools.has(url)) {
    const pool = new Pool(origin, { connections: 64, pipelining: 1, bodyTimeout: 5000, headersTimeout: 5000 });
    pools.set(url, { pool, path: pathname });
  }
  return pools.get(url);
};
const routes = JSON.parse(readFileSync(ROUTES)).map(({ match, targets }) => ({
  match: glob(match),
  targets: targets.map(target),
}));

const post = async ({ pool, path }, body, id) => {
  try {
    const headers = { "content-type": "application/json", "x-request-id": id, "webhook-id": id };
    const answer = await pool.request({ path, method: "POST", headers, body });
    const text = await answer.body.text();
    return answer.statusCode === 200 && JSON.parse(text).code === "000";
  } catch {
    return false;
  }
};

const reply = (response, status, code, id) => {
  const body = JSON.stringify({ request_id: id, code, msg: "" });
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
};

const receive = async (body, response) => {
  const id = randomUUID();
  const started = performance.now();
  let event;
  try {
    event = JSON.parse(body);
  } catch {
    return reply(response, 400, "400", id);
  }
  if (!valid(event)) return reply(response, 400, "400", id);
  const plan = new Set();
  for (const route of routes) {
    if (route.match.test(event.event_key)) for (const each of route.targets) plan.add(each);
  }
  const results = await Promise.all([...plan].map((each) => post(each, body, id)));
  const good = results.length > 0 && results.every(Boolean);
  const ms = performance.now() - started;
  log.write(JSON.stringify({ time: new Date().toISOString(), id, key: event.event_key, results, ms }) + "\n");
  reply(response, good ? 200 : 500, good ? "000" : "500", id);
};

createServer((request, response) => {
  if (request.method !== "POST" || request.url !== "/callback") return reply(response, 404, "404", randomUUID());
  const chunks = [];
  let size = 0;
  request.on("data", (chunk) => {
    size += chunk.length;
    if (size > MAX_BODY) request.destroy();
    chunks.push(chunk);
  });
  request.on("end", () => receive(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), response));
}).listen(Number(PORT), "127.0.0.1");
