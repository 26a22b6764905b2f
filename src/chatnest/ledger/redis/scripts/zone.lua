-- The zone that a limit's name is counted in: the first that came. Answers { 0, now, zone }.

local name, zone = text(), text()
call('HSETNX', KEYS[2], name, zone)
return { 0, now, call('HGET', KEYS[2], name) }
