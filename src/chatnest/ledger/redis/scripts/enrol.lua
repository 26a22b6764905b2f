-- Set or read the bit of a cluster's slot that has a mark. Answers { 0, now, the bit before }.

local slot, adds = int(), int()
if adds == 1 then return { 0, now, call('SETBIT', KEYS[2], slot, 1) } end
return { 0, now, call('GETBIT', KEYS[2], slot) }
