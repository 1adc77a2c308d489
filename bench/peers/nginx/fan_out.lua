local cjson = require "cjson.safe"

local M = {}
local routes = {}

local function pattern(glob)
  local escaped = glob:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0")
  return "^" .. escaped:gsub("%*", ".*"):gsub("%?", ".") .. "$"
end

function M.load(path)
  local file = assert(io.open(path))
  for _, route in ipairs(assert(cjson.decode(file:read("*a")))) do
    local urls = {}
    for i, url in ipairs(route.targets) do urls[i] = "/to/" .. url:match(":(%d+)/") end
    routes[#routes + 1] = { match = pattern(route.match), targets = urls }
  end
  file:close()
end

local function text(value) return type(value) == "string" and value ~= "" end

local function valid(event)
  return type(event) == "table" and text(event.event_source) and text(event.event_topic)
    and text(event.event_type) and text(event.event_status) and type(event.changes) == "table"
end

local function reply(status, code)
  local body = '{"request_id":"' .. ngx.var.request_id .. '","code":"' .. code .. '","msg":""}'
  ngx.status = status
  ngx.header["content-type"] = "application/json"
  ngx.header["content-length"] = #body
  ngx.print(body)
end

local function plan(key)
  local calls, seen = {}, {}
  for _, route in ipairs(routes) do
    if key:find(route.match) then
      for _, target in ipairs(route.targets) do
        if not seen[target] then
          seen[target] = true
          calls[#calls + 1] = { target, { method = ngx.HTTP_POST, always_forward_body = true } }
        end
      end
    end
  end
  return calls
end

local function acknowledged(answer)
  if answer.status ~= 200 or answer.truncated then return false end
  local said = cjson.decode(answer.body)
  return type(said) == "table" and said.code == "000"
end

function M.receive()
  if ngx.req.get_method() ~= "POST" then return reply(405, "405") end
  ngx.req.read_body()
  local event = cjson.decode(ngx.req.get_body_data() or "")
  if not valid(event) then return reply(400, "400") end
  ngx.var.event_key = event.event_key
  local calls = plan(event.event_key)
  if #calls == 0 then return reply(500, "500") end
  for _, answer in ipairs({ ngx.location.capture_multi(calls) }) do
    if not acknowledged(answer) then return reply(500, "500") end
  end
  reply(200, "000")
end

return M
