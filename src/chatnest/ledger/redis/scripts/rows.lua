-- Read hashes of the roll-up. Answers { 0, each hash as fields and values in turn, packed }. Keys: the
-- mark, the hashes. Stops after the hash that reaches the maximum of values, so that the server is not
-- blocked; reads at least one. Does not read a store of another layout: { -1, the mark }.

local call = redis.call
local schema, most = ARGV[1], tonumber(ARGV[2])
local mark = call('GET', KEYS[1])
if mark and string.match(mark, '^%d+') ~= schema then return { -1, mark } end

local found, values = {}, 0
for at = 2, #KEYS do
  if values >= most then break end
  local hash = call('HGETALL', KEYS[at])
  found[#found + 1] = hash
  values = values + 1 + #hash
end
return { 0, cmsgpack.pack(found) }
