-- Give the books a new mark, which names the mark that it follows: a step of an operator. With an
-- expected mark, only if that is the mark. With a name and a zone, the zone changes in the same step.
-- Answers { the old mark, the mark now, the slots that have a copy }.

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
