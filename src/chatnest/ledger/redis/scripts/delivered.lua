-- Note the state of a crossing, which is no longer pending. Answers { 0, now }.

local member, field, state = text(), text(), text()
call('ZREM', KEYS[3], member)
local packed = call('HGET', KEYS[2], field)
if packed then call('HSET', KEYS[2], field, (string.gsub(packed, '%S+$', state))) end
return { 0, now }
