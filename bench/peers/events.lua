-- What wrk sends: an event of its own each time, with CHANGES ids. It is for one route of fifty, which
-- has all targets; with KINDS, each of so many in turn is for a route of its own.
local number = 0
local size = tonumber(os.getenv("CHANGES") or "2")
local kinds = tonumber(os.getenv("KINDS") or "1")
local rest = {}
for i = 2, size do rest[i - 1] = string.format('"%036d"', i) end
local tail = table.concat(rest, ",")

request = function()
  number = number + 1
  local kind = kinds > 1 and "k" .. number % kinds or "cert"
  local body = '{"event_source":"a","event_topic":"gs","event_type":"' .. kind .. '","event_status":"1",'
    .. '"event_key":"a.gs.' .. kind .. '.1","changes":["' .. os.time() .. "-" .. number .. '"'
    .. (size > 1 and "," .. tail or "") .. "]}"
  return wrk.format("POST", nil, { ["content-type"] = "application/json" }, body)
end
