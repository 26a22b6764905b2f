-- Read entries of streams, those of the first stream from an id on. Answers { 0, for each stream
-- { how many were ever added, or -1 if the server does not count them, how many there are, entries },
-- packed }. Keys: the mark, the streams. Stops at the maximum of entries, in the middle of a stream or
-- before the next. Does not read a store of another layout: { -1, the mark }.

local call = redis.call
local schema, from, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local mark = call('GET', KEYS[1])
if mark and string.match(mark, '^%d+') ~= schema then return { -1, mark } end

local found, left = {}, most
for at = 2, #KEYS do
  if left <= 0 then break end
  local key = KEYS[at]
  local stream = { 0, 0, {} }
  if call('EXISTS', key) == 1 then
    local added, info = -1, call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
      if info[i] == 'entries-added' then added = info[i + 1] end
    end
    stream = { added, call('XLEN', key), call('XRANGE', key, from, '+', 'COUNT', left) }
  end
  found[#found + 1] = stream
  left = left - 1 - #stream[3]
  from = '-'
end
return { 0, cmsgpack.pack(found) }
