-- Read accounts, each at one instant. Answers { 0, the server's time, for each account { counters,
-- holds, ends of leases }, packed }. Keys: the mark, three for each account. Stops after the account
-- that reaches the maximum of values, so that the server is not blocked; reads at least one. Does not
-- read a store of another layout: { -1, the mark }.

local call = redis.call
local schema, most = ARGV[1], tonumber(ARGV[2])
local mark = call('GET', KEYS[1])
if mark and string.match(mark, '^%d+') ~= schema then return { -1, mark } end

local found, values = {}, 0
for at = 2, #KEYS, 3 do
  if values >= most then break end
  local account = {
    call('HGETALL', KEYS[at]), call('HGETALL', KEYS[at + 1]),
    call('ZRANGE', KEYS[at + 2], 0, -1, 'WITHSCORES'),
  }
  found[#found + 1] = account
  values = values + 3 + #account[1] + #account[2] + #account[3]
end
return { 0, call('TIME'), cmsgpack.pack(found) }
