-- A cluster's slots that have a mark, as bits. Answers { 0, now, whether it was there }.

local slot, adds = int(), int()
if adds == 1 then return { 0, now, call('SETBIT', KEYS[2], slot, 1) } end
return { 0, now, call('GETBIT', KEYS[2], slot) }
