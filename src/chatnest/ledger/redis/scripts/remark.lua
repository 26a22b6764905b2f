-- Give the books another mark, which names the one that it follows: that of an operator's step. With
-- a name and a zone, only where the mark is the one that is expected, and the zone is changed with
-- it. Answers { the mark that was there, the one that is, the slots that have one }.

local given, schema, word, expected, name, zone = unpack(ARGV)
local mark = redis.call('GET', KEYS[1]) or ''
if expected ~= '' and mark ~= expected then return { mark, mark, '' } end
if mark ~= '' and string.match(mark, '^%d+') ~= schema then return { mark, mark, '' } end
local state, before = string.match(mark, '^%d+ (%S+) %d+ (%S+)$')
local time = redis.call('TIME')
local now = given ~= '' and tonumber(given) or time[1] * 1000 + math.floor(time[2] / 1000)
local follows = state == 'lost' and before or state or '-'
local new = string.format('%s %s %d %s', schema, word, now, follows)
redis.call('SET', KEYS[1], new)
if name ~= '' then redis.call('HSET', KEYS[2], name, zone) end
return { mark, new, redis.call('GET', KEYS[3]) or '' }
