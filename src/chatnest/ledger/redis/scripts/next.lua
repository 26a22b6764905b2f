-- The oldest pending crossing, which is not returned again before its next attempt,
-- as retry_at in watch.py. Answers { 0, now }, or also the crossing and whether it is new.

local least, most = int(), int()
local due = call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%d', now), 'WITHSCORES', 'LIMIT', 0,
  1)
if not due[1] then return { 0, now } end
local at = tonumber(string.match(due[1], '^%S+ %S+ %d+ %a %-?%d+ %-?%d+ (%d+) '))
local wait = math.min(math.max(now - at, least), most)
call('ZADD', KEYS[2], string.format('%d', now + wait), due[1])
return { 0, now, due[1], tonumber(due[2]) == at and 1 or 0 }
