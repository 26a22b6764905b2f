-- Some entries of a stream, from an id on: { how many were added ever, -1 where the server does not
-- count them, how many there are, entries }.

local call = redis.call
local key, from, most = KEYS[1], ARGV[1], ARGV[2]
if call('EXISTS', key) == 0 then return { 0, 0, {} } end
local added, info = -1, call('XINFO', 'STREAM', key)
for i = 1, #info, 2 do
  if info[i] == 'entries-added' then added = info[i + 1] end
end
return { added, call('XLEN', key), call('XRANGE', key, from, '+', 'COUNT', most) }
