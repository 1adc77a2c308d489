-- What wrk sends: an event of its own each time, with CHANGES ids. It is for one route of fifty, which
-- has all targets.
local number = 0
local size = tonumber(os.getenv("CHANGES") or "2")
local rest = {}
for i = 2, size do rest[i - 1] = string.format('"%036d"', i) end
local tail = table.concat(rest, ",")

request = function()
  number = number + 1
  local body = '{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    .. '"event_key":"a.gs.cert.1","changes":["' .. os.time() .. "-" .. number .. '"'
    .. (size > 1 and "," .. tail or "") .. "]}"
  return wrk.format("POST", nil, { ["content-type"] = "application/json" }, body)
end
