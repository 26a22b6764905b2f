-- Read the identity of the books: { the mark, zones of limits, the server's time }. If there is no
-- mark, the given one begins books, unless it is empty.

local given, begins = ARGV[1], ARGV[2]
if begins ~= '' then redis.call('SET', KEYS[1], begins, 'NX') end
local time = redis.call('TIME')
return {
  redis.call('GET', KEYS[1]) or '', redis.call('HGETALL', KEYS[2]),
  given ~= '' and tonumber(given) or time[1] * 1000 + math.floor(time[2] / 1000),
}
