-- Set the zone of a limit's name, unless it has one. Answers { 0, now, zone }.

local name, zone = text(), text()
call('HSETNX', KEYS[2], name, zone)
return { 0, now, call('HGET', KEYS[2], name) }
