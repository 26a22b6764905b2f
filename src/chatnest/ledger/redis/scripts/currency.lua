-- The currency of the books, which is the given one if they have none. Answers { 0, now, currency }.

local given = text()
if given ~= '' then call('SETNX', KEYS[2], given) end
return { 0, now, call('GET', KEYS[2]) or '' }
