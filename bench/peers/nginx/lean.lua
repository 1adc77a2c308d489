local M = {}
local calls = {}

function M.load(ports)
  for i, port in ipairs(ports) do
    calls[i] = { "/to/" .. port, { method = ngx.HTTP_POST, always_forward_body = true } }
  end
end

local function reply(status, code)
  local body = '{"code":"' .. code .. '","msg":""}'
  ngx.status = status
  ngx.header["content-type"] = "application/json"
  ngx.header["content-length"] = #body
  ngx.print(body)
end

function M.receive()
  ngx.req.read_body()
  for _, answer in ipairs({ ngx.location.capture_multi(calls) }) do
    if answer.status ~= 200 or not answer.body:find('"code":"000"', 1, true) then
      return reply(500, "500")
    end
  end
  reply(200, "000")
end

return M
